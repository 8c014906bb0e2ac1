# SPDX-License-Identifier: Apache-2.0
"""Our TUF client as the suite tuf-conformance calls one (its CLIENT-CLI.md).

``scripts/tuf-conformance`` runs the suite with it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from agent.control.trust_fetch import Address, visit
from agent.control.trust_walk import Client, judged
from agent.errors import FepError

PINNED = "pinned"


def main() -> int:
    """One command; 0 if all of it was done."""
    args = _parser().parse_args()
    try:
        if args.command == "init":
            for name in (PINNED, "root.json"):
                shutil.copyfile(args.root, args.metadata_dir / name)
        elif args.command == "refresh":
            with _client(args) as client:
                client.refresh()
        else:
            _download(args)
    except FepError as e:
        sys.stderr.write(f"{e}\n")
        return 1
    return 0


def _download(args: argparse.Namespace) -> None:
    with _client(args) as client:
        for name in args.target_name:
            info = client.get_targetinfo(name)
            if info is None:
                raise FepError(f"{name}: not there")
            place = args.target_dir / name.replace("/", "%2F")
            if client.find_cached_target(info, str(place)) is None:
                client.download_target(info, str(place))


@contextmanager
def _client(args: argparse.Namespace) -> Iterator[Client]:
    """Our updater, our fetcher, our bounds; plain HTTP, for the suite has no other."""
    url = args.metadata_url.rstrip("/").removesuffix("/metadata")
    root = (args.metadata_dir / PINNED).read_bytes()
    with visit(Address(url, None)) as source, judged(args.metadata_dir):
        yield Client(args.metadata_dir, source, root, datetime.now(UTC))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metadata-url")
    parser.add_argument("--metadata-dir", type=Path, required=True)
    parser.add_argument("--target-name", action="append")
    parser.add_argument("--target-dir", type=Path)
    parser.add_argument("--target-base-url")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init").add_argument("root", type=Path)
    commands.add_parser("refresh")
    commands.add_parser("download")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

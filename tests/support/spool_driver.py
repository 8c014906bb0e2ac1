# SPDX-License-Identifier: Apache-2.0
"""A small program that writes batches as the flow does, to be broken by strace.

``python -m tests.support.spool_driver FOLDER COUNT`` recovers, then publishes and
registers COUNT more batches and prints the seq of each one that is registered. Exit
code: that of the error.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from agent.crypto.jose import message_digest
from agent.errors import FepError
from agent.model.batch import BatchId, Quality, Rows
from agent.model.stream import Head
from agent.pipeline.spool import Expected, Quota, Spool
from agent.state import Batch, Epoch, NewBatch, Run, State, StreamKey

KEY = StreamKey("11330100MB0000000A/fep-01", "yunxi.exchange", "330100001/000001")
AT = "2026-11-21T08:00:00Z"
PAYLOAD = b"rows" * 1000


def opened(folder: Path) -> tuple[State, Spool]:
    """State and spool of a folder, recovered."""
    state = State(folder / "state.db", new_incarnation=lambda: "a" * 32)
    spool = Spool(folder / "spool", quota=Quota(10**9, 0))
    spool.clean(state.files())
    return state, spool


def prepare(folder: Path) -> None:
    """A state with an open epoch and a run."""
    state, _spool = opened(folder)
    stream = state.stream(KEY)
    head = Head(1, 0, None, stream.head.incarnation, "first")
    state.open_epoch(stream.id, Epoch(head, "position", AT))
    state.add_run(Run("run", stream.id, "queued", None, AT))
    state.close()


def write(folder: Path, count: int) -> None:
    """Publish and register so many batches."""
    state, spool = opened(folder)
    for _ in range(count):
        head = state.stream(KEY).head
        sys.stdout.write(f"{_one(state, spool, head)}\n")
        sys.stdout.flush()
    state.close()


def _one(state: State, spool: Spool, head: Head) -> int:
    seq = head.seq + 1
    line = f"aGVhZGVy.{seq:08d}.c2lnbmF0dXJl"
    data = line.encode() + b"\n" + PAYLOAD
    tmp = spool.tmp("run", seq)
    with tmp.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    name = spool.name(BatchId(KEY.producer, KEY.aud, KEY.resource, head.epoch, seq))
    spool.publish(tmp, name, size=len(data))
    state.register(
        NewBatch(
            stream=1,
            head=head,
            digest=message_digest(line),
            run="run",
            file=name,
            size=len(data),
            content_size=len(PAYLOAD),
            content_digest="sha256:" + hashlib.sha256(PAYLOAD).hexdigest(),
            mode="full",
            part=seq,
            rows=Rows(1, 0, 0),
            quality=Quality(1, 0, 0),
            distinct=None,
            token="t",
            final=False,
            frontier=None,
            as_of=AT,
            at=AT,
        )
    )
    return seq


def expected(batch: Batch) -> Expected:
    """What a registered batch's file must be."""
    return Expected(
        file=batch.file,
        size=batch.size,
        digest=batch.digest,
        content_size=batch.content_size,
        content_digest=batch.content_digest,
    )


def main(argv: list[str]) -> int:
    """Run; the exit code of the error."""
    try:
        write(Path(argv[1]), int(argv[2]))
    except FepError as e:
        sys.stderr.write(f"{e.code}: {e.detail}\n")
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))

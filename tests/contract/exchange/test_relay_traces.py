# SPDX-License-Identifier: Apache-2.0
"""What the relay keeps of a lookup: nothing of what was asked and answered."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import traces
from tests.support.exchange_client import Node
from tests.support.lookup_client import asked, calling
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.contract

SUBJECT = "110101199003079977"
NAME = "欧阳锦绣山河"
BASIS = "CANARY-BASIS-7311"
CANARIES = (SUBJECT, NAME, BASIS)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """An exchange of our own: nobody else's messages are in its memory."""
    with running_sandbox(tmp_path_factory.mktemp("exchange")) as found:
        yield found


@pytest.mark.parametrize("text", CANARIES, ids=["subject", "name", "basis"])
@pytest.mark.parametrize("form", ["str", "bytes", "json", "base64"])
def test_search_finds_what_is_there(text: str, form: str) -> None:
    """The search itself: a process that holds a text is found out, in each form."""
    program = (
        "import base64, json, sys\n"
        "text = sys.stdin.readline().strip()\n"
        "kept = {'str': lambda: 'x' + text, 'bytes': lambda: text.encode(),"
        " 'json': lambda: json.dumps([text]), 'base64': lambda:"
        " base64.urlsafe_b64encode(b'before' + text.encode() + b'after')}"
        f"[{form!r}]()\n"
        "del text\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-X", "utf8", "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(text + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        found = traces.in_process(process.pid, [text, "nothing like it 4711"])
        process.stdin.close()
    assert set(found) == {text}


def test_search_finds_what_is_in_files(tmp_path: Path) -> None:
    """Contents at any depth, and names."""
    (tmp_path / "a" / SUBJECT).mkdir(parents=True)
    (tmp_path / "a" / "b").write_bytes(b"\x00" + NAME.encode("utf-16-le"))
    assert set(traces.in_folder(tmp_path, CANARIES)) == {SUBJECT, NAME}


async def test_relay_holds_no_subject_key_or_value(
    sandbox: SandboxProcess, node: Node, stranger: Node
) -> None:
    """Memory while requests wait and after the replies, and the whole folder.

    That the search works is seen from the sealed text, which must be there.
    """
    items = [{"keys": {"id": SUBJECT}}]
    body = asked(node, stranger, items=items, basis=BASIS)
    assert sandbox.process is not None
    pid = sandbox.process.pid
    row = {"i": 0, "status": "ok", "as_of": "2026-11-21T08:00:00Z"}
    rows = [row | {"data": {"name": NAME}}]
    async with (
        calling(node) as consumer,
        calling(stranger) as caller,
        caller.channel() as provider,
    ):
        waiting = [consumer.ask(body) for _ in range(8)]
        frames = [await provider.frame() for _ in range(8)]
        sealed = body[-600:-560]
        found = traces.in_process(pid, [*CANARIES, sealed])
        assert set(found) == {sealed}
        for frame in frames:
            await provider.reply(frame, node, results=rows)
        assert {(await task).status for task in waiting} == {200}
        assert traces.in_process(pid, CANARIES) == {}
        assert traces.in_folder(sandbox.folder, [*CANARIES, sealed]) == {}


async def test_refused_bodies_leave_no_trace_on_disk(
    sandbox: SandboxProcess, node: Node, stranger: Node
) -> None:
    """Even a bare message, which should never have been sent, is not logged."""
    bare = node.key.sign("fep-lookup-req+jws", {"keys": {"id": SUBJECT}})
    async with (
        calling(node) as consumer,
        calling(stranger) as caller,
        caller.channel() as provider,
    ):
        assert (await consumer.relay(bare)).status == 400
        waiting = consumer.ask(asked(node, stranger))
        frame = await provider.frame()
        await provider.send(t="res", id=frame["id"], body=NAME)
        assert (await waiting).status == 503
        await provider.line.send_str(NAME)
        await provider.ended()
    assert traces.in_folder(sandbox.folder, CANARIES) == {}

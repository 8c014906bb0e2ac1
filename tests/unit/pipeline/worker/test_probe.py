# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.child.process import Guard
from agent.errors import ConfigInvalid, InternalFault, SourceLogin, WorkerDied
from agent.model.job import LINE_CAP
from agent.pipeline.worker import probe
from agent.pipeline.worker.probe import Question, ask, reply
from connectors.contract import (
    Caps,
    ColumnSpec,
    Finding,
    FoundColumn,
    FoundTable,
    SourceError,
    StreamSpec,
)

STREAM = StreamSpec(("hr", "person"), (ColumnSpec("ID", "C", 18, None, True),))
CANARY = "110101199003070011"
CHILD = Path(__file__).parents[3] / "support" / "odd_child.py"


class Asked:
    """A connector that answers at once."""

    name = "asked"
    api = 1

    def check(
        self, config: Mapping[str, Any], streams: Sequence[StreamSpec]
    ) -> list[Finding]:
        marks = f"{streams[0].stamp} {streams[0].number}"
        return [Finding("grant-missing", "error", marks, "缺少权限", "GRANT …")]

    def discover(self, config: Mapping[str, Any]) -> list[FoundTable]:
        if fail := config.get("fail"):
            raise SourceError(fail, "role fep")
        if config.get("bug"):
            raise KeyError(CANARY)
        column = FoundColumn("ID", "text", "C", 18, None, False, True, "编号")
        return [FoundTable(("hr", "person"), "x" * config.get("long", 1), 3, (column,))]

    def capabilities(self, config: Mapping[str, Any], stream: StreamSpec) -> Caps:
        return Caps(True, True, {c.name: "native" for c in stream.columns})


def asked(task: Any, **source: Any) -> dict[str, Any]:
    """What the child answers, without a child."""
    question = {
        "task": task,
        "connector": "asked",
        "source": source,
        "streams": [
            {
                "table": ["hr", "person"],
                "stamp": "AT",
                "number": "SEQ",
                "columns": [
                    {
                        "name": "ID",
                        "type": "C",
                        "length": 18,
                        "scale": None,
                        "key": True,
                    }
                ],
            }
        ],
    }
    line = reply(json.dumps(question).encode(), lambda _: Asked())
    assert line.endswith(b"\n")
    answer: dict[str, Any] = json.loads(line)
    return answer


def test_check_answers_findings() -> None:
    """Findings come back with both languages and the exact remedy."""
    (found,) = asked("check")["answer"]

    assert Finding(**found) == Finding(
        "grant-missing", "error", "AT SEQ", "缺少权限", "GRANT …"
    )


def test_capabilities_answers_one_for_each_stream() -> None:
    """Capabilities name the path of every column."""
    assert asked("capabilities")["answer"] == [
        {
            "snapshot": True,
            "ordered": True,
            "paths": {"ID": "native"},
            "increments": None,
        }
    ]


def test_source_error_comes_back_with_its_kind() -> None:
    """A refused login is told as such."""
    assert asked("discover", fail="login") == {
        "code": "source-login",
        "detail": "role fep",
    }


def test_foreign_exception_comes_back_without_its_message() -> None:
    """Of a defect only the class is told."""
    assert asked("discover", bug=1) == {"code": "internal", "detail": "KeyError"}


def test_question_that_is_none_is_refused() -> None:
    """Garbage instead of a question is answered with the class of the fault."""
    assert json.loads(reply(b"[]\n", lambda _: Asked())) == {
        "code": "internal",
        "detail": "TypeError",
    }


def test_answer_is_bounded() -> None:
    """An answer above the cap is not sent; its size is."""
    told = asked("discover", long=LINE_CAP)

    assert f"at most {LINE_CAP}" in told["detail"]


def child(answer: bytes) -> dict[str, Any]:
    """How to start a probe that gives this answer."""
    program = (
        "import socket, sys; s = socket.socket(fileno=int(sys.argv[2]));"
        "s.recv(65536); s.sendall(bytes.fromhex(sys.argv[1]))"
    )
    return {
        "command": (sys.executable, "-I", "-S", "-c", program, answer.hex()),
        "environ": {},
        "guard": Guard(poll_s=0.01),
    }


QUESTION = Question("discover", "asked", {"password": "correct horse"})


@pytest.mark.parametrize(
    ("answer", "fault", "words"),
    [
        (b'{"code": "source-login", "detail": "role fep"}\n', SourceLogin, "role fep"),
        (b'{"code": "internal", "detail": "KeyError"}\n', InternalFault, "KeyError"),
        (b'{"code": "odd", "detail": "x"}\n', WorkerDied, "unknown form"),
        (b"[1]\n", WorkerDied, "unknown form"),
        (b"hello\n", WorkerDied, "not JSON"),
        (b'{"answer": [', WorkerDied, "exit code 0"),
        (b"", WorkerDied, "exit code 0"),
    ],
)
async def test_answers_that_are_none(
    answer: bytes, fault: type[Exception], words: str
) -> None:
    """Whatever a child answers is an answer or one of our errors."""
    with pytest.raises(fault, match=words):
        await ask(QUESTION, **child(answer))


async def test_hanging_driver_is_killed() -> None:
    """A question that is not answered in time is a dead worker."""
    command = (sys.executable, "-I", "-S", str(CHILD), "hangs")
    guard = Guard(silence_s=0.05, poll_s=0.01)
    with pytest.raises(WorkerDied, match=r"no message for 0\.05 s"):
        await ask(QUESTION, command=command, environ={}, guard=guard)


async def test_real_probe_finds_the_tables_of_a_file(tmp_path: Path) -> None:
    """The real child answers with the contract's own values."""
    path = tmp_path / "hr.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE person (id TEXT PRIMARY KEY, name TEXT)")
        db.commit()

    (table,) = await probe.discover("sqlite", {"path": str(path)})

    assert table.table[-1] == "person"
    assert [c.name for c in table.columns] == ["id", "name"]
    assert isinstance(table.columns[0], FoundColumn)
    stream = StreamSpec(table.table, (ColumnSpec("id", "C", 18, None, True),))
    findings = await probe.check("sqlite", {"path": str(path)}, [stream])
    assert all(isinstance(f, Finding) and f.severity != "error" for f in findings)
    (caps,) = await probe.capabilities("sqlite", {"path": str(path)}, [stream])
    assert caps.ordered


async def test_unknown_connector_is_named() -> None:
    """A connector that is not installed is an error of the settings."""
    with pytest.raises(ConfigInvalid, match="no connector is called 'oracle'"):
        await probe.discover("oracle", {})

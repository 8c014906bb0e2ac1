# SPDX-License-Identifier: Apache-2.0
"""The centre's documents: form and bounds, every fault of one at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.control.schema import MODELS, text
from agent.errors import DocumentInvalid
from agent.wire.configuration import (
    FILE_CAP,
    MOST_FAULTS,
    CityLimits,
    Document,
    GroupConfig,
    NodeConfig,
    parse,
)

ROOT = Path(__file__).resolve().parents[3]
GROUP = "groups/pilot/config.json"
NODE = "nodes/11990100MB0000018H/fep1/config.json"


def read(path: str = GROUP, **members: Any) -> Document:
    """A document of version 1, generation 1 and these members."""
    return parse(path, json.dumps({"v": 1, "generation": 1, **members}).encode())


def faults(path: str = GROUP, data: bytes | None = None, **members: Any) -> list[str]:
    """``key: expected; got`` of each."""
    with pytest.raises(DocumentInvalid) as caught:
        parse(path, data) if data is not None else read(path, **members)
    assert {f.file for f in caught.value.faults} == {path}
    return [f"{f.key}: {f.expected}; {f.got}" for f in caught.value.faults]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (GROUP, GroupConfig),
        (NODE, NodeConfig),
        ("limits.json", CityLimits),
    ],
)
def test_a_path_says_which_document_it_is(path: str, kind: type[Document]) -> None:
    """The least of each: a version and a generation."""
    assert type(read(path)) is kind


def test_what_a_document_leaves_out_it_does_not_say() -> None:
    """Defaults of the settings are not words of the centre."""
    found = read(settings={"schedule": {"101/1": {"full": "every 1h"}}})
    assert isinstance(found, GroupConfig)
    said = found.settings.model_dump(mode="json", exclude_unset=True)
    assert said == {"schedule": {"101/1": {"full": "every 1h"}}}


def test_every_fault_is_listed_at_once() -> None:
    """Unknown keys, numbers as strings, wrong forms and bounds: one error."""
    found = faults(
        NODE,
        generation=0,
        groups=["A"],
        sources={"rsj": {"connector": "sqlite"}},
        settings={
            "schedule": {"person": {"full": "hourly"}},
            "limits": {"rsj": {"rows_per_s": "5", "off_peak": ["25:00-26:00"]}},
            "push": {"workers": 99, "worker_memory_mb": 4096},
            "exchange": {"url": "http://a:1", "ca_sha256": "00", "kid": "x"},
            "lookup": {"policy": "all.toml"},
        },
        off=["12"],
    )
    assert [line.partition(":")[0] for line in found] == [
        "generation",
        "settings.schedule.person",
        "settings.schedule.person.full",
        "settings.limits.rsj.rows_per_s",
        "settings.limits.rsj.off_peak.0",
        "settings.push.workers",
        "settings.push.worker_memory_mb",
        "settings.exchange.url",
        "settings.exchange.ca_sha256",
        "settings.exchange.kid",
        "settings.lookup",
        "off.0",
        "groups.0",
        "sources",
    ]
    assert "settings.limits.rsj.rows_per_s: a valid integer; '5'" in found


@pytest.mark.parametrize(
    "key",
    ["sources", "paths", "agent", "quality", "lookup", "audit", "keep", "tables"],
)
def test_an_unknown_key_is_refused(key: str) -> None:
    """What is local alone has no word in a document."""
    assert faults(settings={key: {}}) == [
        f"settings.{key}: a known key; an unknown key"
    ]


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (b'{"v": 1, "generation": 1, "generation": 2}', "one twice"),
        (b'{"v": 1, "generation": 1.0}', "a fraction"),
        (b'{"v": 1, "generation": 1e3}', "a fraction"),
        (b'{"v": 1, "generation": NaN}', "NaN"),
        (b'{"v": 1, "generation": 9007199254740992}', "2^53"),
        (b"[" * 100_000, "8 levels"),
        (b'{"off": ' + b"[" * 9 + b"]" * 9 + b"}", "8 levels"),
        (b"\xef\xbb\xbf{}", "character 0"),
        (b'{"off": ["\\ud800"]}', "surrogates"),
        (b"[]", "an object"),
        (b"", "character 0"),
    ],
)
def test_json_that_the_wire_does_not_allow_is_refused(data: bytes, got: str) -> None:
    """Twice the same member, fractions, depth: as any other message."""
    [line] = faults(data=data)
    assert line.startswith(": JSON as wire.md §1 allows it;")
    assert got in line


def test_a_huge_document_is_refused_before_it_is_parsed() -> None:
    """The bound of the repository's files holds here, too."""
    assert faults(data=b" " * (FILE_CAP + 1)) == [
        f": at most {FILE_CAP} bytes; {FILE_CAP + 1}"
    ]


def test_a_thousand_faults_fill_no_log() -> None:
    """The first ones are told, and how many there are besides."""
    found = faults(settings={f"x{n}": 1 for n in range(1000)})
    assert len(found) == MOST_FAULTS + 1
    assert found[-1] == f": ... and {1000 - MOST_FAULTS} more; None"


@pytest.mark.parametrize(
    ("members", "key"),
    [
        ({"groups": ["g"] * 17}, "groups"),
        ({"off": ["1/2"] * 1001}, "off"),
        (
            {"settings": {"limits": {f"s{n}": {} for n in range(257)}}},
            "settings.limits",
        ),
        (
            {"settings": {"schedule": {f"1/{n}": {} for n in range(1001)}}},
            "settings.schedule",
        ),
    ],
)
def test_counts_have_bounds(members: dict[str, Any], key: str) -> None:
    """Lists and tables of a document end somewhere."""
    [line] = faults(NODE, **members)
    assert line.startswith(f"{key}: ")


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example@evil.example",
        "https://good.example\\.evil.example",
        "https://good.example#@evil.example",
        "https://good.example?x",
        "https://evil.example\n",
        "https://xn--é.example",
        "//evil.example",
        "https://",
    ],
)
def test_an_address_that_two_readers_could_read_differently_is_refused(
    url: str,
) -> None:
    """Host and port stand in plain letters, with nothing before or behind them."""
    [line] = faults(settings={"exchange": {"url": url}})
    assert line.startswith("settings.exchange.url: an address that begins https://")


@pytest.mark.parametrize("name", MODELS)
def test_the_schemas_for_editors_are_the_models(name: str) -> None:
    """`python -m agent.control.schema config/schema` makes them."""
    assert (ROOT / "config/schema" / name).read_text("utf-8") == text(MODELS[name])

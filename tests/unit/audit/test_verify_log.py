# SPDX-License-Identifier: Apache-2.0
"""The verifier that stands alone finds every attack on an exported log, and where."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audit import verify_log
from agent.audit.events import AdminAction
from agent.audit.export import tile_path
from agent.audit.tiles import TileStore, Tree
from agent.audit.verify_log import Ed25519, Report, Trust, Unusable, read_trust
from agent.crypto.note import Checkpoint, cosign, format_checkpoint
from agent.crypto.notekey import NoteKey
from agent.crypto.tree import leaf_hash
from agent.errors import UsageFault
from tests.support.audit_log import (
    LOG_KEY,
    ORIGIN,
    WITNESS,
    WITNESS_KEY,
    WitnessDouble,
    exported,
    memory_folder,
    site,
)
from tests.support.tries import tries

SIZE = 700
HEADS = (1, 300, 500, SIZE)
TIME = 1_795_248_000


@pytest.fixture(scope="module")
def original() -> Iterator[Path]:
    """An export of 700 records with four cosigned heads, and evidence of two."""
    with memory_folder() as folder:
        asyncio.run(made(folder))
        yield folder


async def made(folder: Path) -> None:
    """Write the export, the evidence and a proof."""
    async with site(folder / "state") as s:
        double = WitnessDouble()
        witness = s.witness(double)
        for head in HEADS:
            more = head - s.log.head().size
            lookups = (s.lookup(head * 1000 + i) for i in range(more))
            await asyncio.gather(*lookups)
            await witness.round()
        desk = s.desk(double)
        await exported(desk, folder / "out")
        evidence = folder / "out" / "evidence"
        evidence.mkdir()
        for n in (17, 400):
            found = await s.log.evidence(n)
            assert found is not None
            (evidence / f"{n}.request.jws").write_text(found.request or "")
            (evidence / f"{n}.reply.jws").write_text(found.reply)
        proof = await desk.prove(17)
        (folder / "17.tlog-proof").write_text(proof["proof"])
        (folder / "17.leaf").write_text(proof["line"])


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to attack."""
    shutil.copytree(original / "out", tmp_path / "log")
    return tmp_path / "log"


def trust(original: Path) -> Trust:
    """The keys as an auditor has them from elsewhere."""
    return read_trust((original / "out" / "keys.json").read_bytes(), "keys")


def codes(report: Report) -> set[str]:
    """What was found."""
    return {f.code for f in report.findings}


def lines_of(folder: Path) -> list[str]:
    """The records."""
    return (folder / "leaves-00000.jsonl").read_text().splitlines()


def put_lines(folder: Path, lines: list[str]) -> None:
    """Other records."""
    (folder / "leaves-00000.jsonl").write_text("".join(f"{line}\n" for line in lines))


def put_tiles(folder: Path, lines: list[str]) -> Tree:
    """Tiles that agree with the records given."""
    shutil.rmtree(folder / "tile")
    kept: dict[tuple[int, int], bytes] = {}
    tree = Tree(TileStore(lambda level, n: kept.get((level, n))), 0, [[]])
    for line in lines:
        tree.append(leaf_hash(line.encode()))
    kept.update({(t.level, t.number): t.hashes for t in tree.fresh()})
    for level in range(3):
        for number in range((tree.size >> (8 * level)) // 256 + 1):
            data = tree.tile(level, number, tree.size)
            if data:
                path = folder / tile_path(level, number, len(data) // 32)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    return tree


def put_heads(folder: Path, tree: Tree, *, key: NoteKey, heads: Any = HEADS) -> None:
    """Heads signed anew, with the old cosignatures below them."""
    old = (folder / "checkpoints.txt").read_text().split("\n\n")
    lines = [part.split("\n")[1] for part in old[1::2]]
    text = ""
    for size, line in zip(heads, lines, strict=False):
        note = format_checkpoint(Checkpoint(ORIGIN, size, tree.root(size)), key, ORIGIN)
        text += f"{note}{line}\n\n"
    (folder / "checkpoints.txt").write_text(text)


def change(lines: list[str], n: int) -> list[str]:
    """Another consumer in record n."""
    return [
        line.replace("0000000B", "0000000X") if i == n else line
        for i, line in enumerate(lines)
    ]


# --- nothing wrong --------------------------------------------------------------------


def test_a_log_as_exported_is_good(original: Path) -> None:
    """With the keys of an auditor; every head cosigned."""
    report = verify_log.examine(original / "out", trust=trust(original))
    assert report.findings == []
    assert report.notes == []
    assert report.facts == {
        "origin": ORIGIN,
        "size": SIZE,
        "first": 0,
        "checkpoints": 4,
        "covered": SIZE,
        "cosigned": SIZE,
        "cosigned_at": "2026-11-21T08:11:40Z",
    }


def test_the_folders_own_keys_are_named_as_such(original: Path) -> None:
    """Good, but it does not say whose."""
    report = verify_log.examine(original / "out")
    assert report.good
    assert [n.code for n in report.notes] == ["self"]


def test_openssl_judges_as_the_library(original: Path, folder: Path) -> None:
    """A host without the library uses the program."""
    program = Ed25519(program=True)
    assert verify_log.examine(folder, ed25519=program).good
    tree = put_tiles(folder, lines_of(folder))
    put_heads(folder, tree, key=NoteKey.generate("audit"))
    report = verify_log.examine(folder, trust=trust(original), ed25519=program)
    assert codes(report) == {"signature", "uncosigned"}


def test_it_runs_alone(original: Path, tmp_path: Path) -> None:
    """A copy of the one file, isolated from the agent, in both languages."""
    shutil.copy(verify_log.__file__, tmp_path / "verify_log.py")
    said = [
        subprocess.run(
            [sys.executable, "-I", tmp_path / "verify_log.py", original / "out"],
            cwd=tmp_path,
            env={**os.environ, "LANG": lang},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for lang in ("en_US.UTF-8", "zh_CN.UTF-8")
    ]
    assert "GOOD" in said[0]
    assert "完好" in said[1]


def test_it_imports_nothing_of_the_agent() -> None:
    """Only the standard library, and one library for signatures."""
    text = Path(verify_log.__file__).read_text()
    assert "import agent" not in text
    assert "from agent" not in text


@pytest.fixture
def later(folder: Path) -> Path:
    """An export of 65,546 records that has the lines of the last ten only."""
    size = 65_546
    lines = [f'{{"v":1,"n":{n},"at":"2026-11-21T08:00:00Z"}}' for n in range(size)]
    shutil.rmtree(folder / "evidence")
    (folder / "leaves-00000.jsonl").unlink()
    tree = put_tiles(folder, lines)
    head = Checkpoint(ORIGIN, size, tree.root())
    (folder / "checkpoints.txt").write_text(format_checkpoint(head, LOG_KEY, ORIGIN))
    rest = "".join(f"{line}\n" for line in lines[65_536:])
    (folder / "leaves-00001.jsonl").write_text(rest)
    return folder


def test_a_later_part_stands_on_the_hashes_of_the_earlier(
    original: Path, later: Path
) -> None:
    """Where an export begins later, tiles take the place of lines."""
    lone = Trust(ORIGIN, trust(original).log, ())
    report = verify_log.examine(later, trust=lone)
    assert report.findings == []
    assert (report.facts["first"], report.facts["size"]) == (65_536, 65_546)


@pytest.mark.parametrize("number", [0, 77, 255])
def test_a_hash_changed_in_the_earlier_part_is_found(
    original: Path, later: Path, number: int
) -> None:
    """No line could show it; the tile above and the head do."""
    path = later / "tile" / "0" / f"{number:03d}"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    lone = Trust(ORIGIN, trust(original).log, ())
    assert not verify_log.examine(later, trust=lone).good
    path.unlink()
    report = verify_log.examine(later, trust=lone)
    assert (report.first_bad, "gap" in codes(report)) == (number * 256, True)


# --- attacks --------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 255, 256, 299, 300, 511, 512, 698, 699])
def test_an_edited_record_is_located(original: Path, folder: Path, n: int) -> None:
    """One character changed."""
    lines = lines_of(folder)
    lines[n] = lines[n].replace('"kind":"', '"kind":"X', 1)
    put_lines(folder, lines)
    report = verify_log.examine(folder, trust=trust(original))
    assert report.first_bad == n
    assert "changed" in codes(report)


def test_several_edited_records_are_all_named(original: Path, folder: Path) -> None:
    """Each of them, over several blocks and heads."""
    put_lines(folder, change(change(lines_of(folder), 20), 600))
    report = verify_log.examine(folder, trust=trust(original))
    assert [f.record for f in report.findings if f.code == "changed"] == [20, 600]


@pytest.mark.parametrize("n", [3, 255, 400])
def test_reordered_records_are_located(original: Path, folder: Path, n: int) -> None:
    """Two neighbours exchanged."""
    lines = lines_of(folder)
    lines[n], lines[n + 1] = lines[n + 1], lines[n]
    put_lines(folder, lines)
    report = verify_log.examine(folder, trust=trust(original))
    assert report.first_bad == n
    assert "place" in codes(report)


@pytest.mark.parametrize("n", [0, 5, 256, 650])
def test_a_removed_record_is_located(original: Path, folder: Path, n: int) -> None:
    """Everything after it moved up."""
    lines = lines_of(folder)
    del lines[n]
    put_lines(folder, lines)
    report = verify_log.examine(folder, trust=trust(original))
    assert report.first_bad == n


def test_an_inserted_record_is_located(original: Path, folder: Path) -> None:
    """A copy of a record, in the middle."""
    lines = lines_of(folder)
    put_lines(folder, [*lines[:77], lines[76], *lines[77:]])
    report = verify_log.examine(folder, trust=trust(original))
    assert report.first_bad == 77


@pytest.mark.parametrize("left", [0, 1, 299, 512, 699])
def test_a_cut_log_is_located(original: Path, folder: Path, left: int) -> None:
    """Records gone at the end; the newest head says how many there were."""
    put_lines(folder, lines_of(folder)[:left])
    report = verify_log.examine(folder, trust=trust(original))
    assert report.first_bad == left
    assert "missing" in codes(report)


def test_a_missing_file_is_located(original: Path, later: Path) -> None:
    """The first of two; and a number from far away costs nothing."""
    (later / "leaves-00001.jsonl").rename(later / "leaves-00003.jsonl")
    (later / "leaves-00000.jsonl").write_text('{"v":1,"n":0,"at":""}\n')
    lone = Trust(ORIGIN, trust(original).log, ())
    report = verify_log.examine(later, trust=lone)
    assert codes(report) >= {"gap", "missing"}
    assert [f.record for f in report.findings if f.code == "gap"] == [1]
    (later / "leaves-00003.jsonl").rename(later / "leaves-9999999999.jsonl")
    assert not verify_log.examine(later, trust=lone).good


def test_a_log_cut_with_its_heads_and_tiles_is_found_by_a_kept_head(
    original: Path, folder: Path
) -> None:
    """Within itself it is whole; the exchange's copy of the head tells."""
    notes = (folder / "checkpoints.txt").read_text()
    newest = "\n\n".join(notes.split("\n\n")[6:8]) + "\n"
    lines = lines_of(folder)[:500]
    put_lines(folder, lines)
    put_tiles(folder, lines)
    (folder / "checkpoints.txt").write_text("\n\n".join(notes.split("\n\n")[:6]) + "\n")
    for file in (folder / "evidence").iterdir():
        file.unlink()
    assert verify_log.examine(folder, trust=trust(original)).good
    report = verify_log.examine(folder, trust=trust(original), head=newest.encode())
    assert (report.first_bad, codes(report)) == (500, {"head-cut"})


def test_a_log_changed_with_its_tiles_is_found(original: Path, folder: Path) -> None:
    """The signed heads contradict both; the range is named."""
    lines = change(lines_of(folder), 333)
    put_lines(folder, lines)
    put_tiles(folder, lines)
    report = verify_log.examine(folder, trust=trust(original))
    assert codes(report) == {"root"}
    assert report.first_bad == 300  # the head of 300 still held


def test_a_log_signed_anew_is_found_by_its_cosignatures(
    original: Path, folder: Path
) -> None:
    """Whoever holds the audit key rewrites all: the witness's lines are false then."""
    lines = change(lines_of(folder), 333)
    put_lines(folder, lines)
    put_heads(folder, put_tiles(folder, lines), key=LOG_KEY)
    report = verify_log.examine(folder, trust=trust(original))
    assert codes(report) == {"cosignature"}
    assert report.first_bad == 300


def test_a_log_signed_anew_without_cosignatures_is_found(
    original: Path, folder: Path
) -> None:
    """A trusted witness that cosigned nothing is a finding."""
    lines = change(lines_of(folder), 333)
    put_lines(folder, lines)
    tree = put_tiles(folder, lines)
    head = Checkpoint(ORIGIN, SIZE, tree.root())
    (folder / "checkpoints.txt").write_text(format_checkpoint(head, LOG_KEY, ORIGIN))
    report = verify_log.examine(folder, trust=trust(original))
    assert codes(report) == {"uncosigned"}


def test_a_log_signed_anew_is_found_by_a_kept_head(
    original: Path, folder: Path
) -> None:
    """Even if nobody trusts a witness: a note kept elsewhere."""
    notes = (folder / "checkpoints.txt").read_text()
    kept = "\n\n".join(notes.split("\n\n")[4:6]) + "\n"
    lines = change(lines_of(folder), 333)
    put_lines(folder, lines)
    put_heads(folder, put_tiles(folder, lines), key=LOG_KEY)
    lone = Trust(ORIGIN, trust(original).log, ())
    assert verify_log.examine(folder, trust=lone).good
    report = verify_log.examine(folder, trust=lone, head=kept.encode())
    assert (report.first_bad, codes(report)) == (0, {"head-other"})


def test_a_log_signed_by_a_strange_key_is_found(original: Path, folder: Path) -> None:
    """Every head."""
    put_heads(
        folder,
        put_tiles(folder, lines_of(folder)),
        key=NoteKey.generate("audit"),
    )
    report = verify_log.examine(folder, trust=trust(original))
    assert codes(report) == {"signature", "uncosigned"}
    assert len([f for f in report.findings if f.code == "signature"]) == 4


def test_two_histories_of_one_size_are_found(original: Path, folder: Path) -> None:
    """A fork: two signed heads of the same size."""
    head = Checkpoint(ORIGIN, SIZE, hashlib.sha256(b"other").digest())
    with (folder / "checkpoints.txt").open("a") as file:
        file.write(format_checkpoint(head, LOG_KEY, ORIGIN))
    report = verify_log.examine(folder, trust=trust(original))
    assert codes(report) == {"order"}


def test_the_head_of_another_log_is_found(original: Path, folder: Path) -> None:
    """Signed by the right key, for another origin."""
    other = "11330100MB0000000C/fep-01/audit"
    head = Checkpoint(other, SIZE + 1, hashlib.sha256(b"other").digest())
    with (folder / "checkpoints.txt").open("a") as file:
        file.write(format_checkpoint(head, LOG_KEY, other))
    assert codes(verify_log.examine(folder, trust=trust(original))) == {"origin"}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("\u2014 1133", "\u2014 1134", 1),
        lambda text: text.replace("\n300\n", "\n301\n", 1),
        lambda text: text[:-20],
        lambda text: "hello\n" + text,
        lambda text: "",
    ],
    ids=["name", "size", "cut", "garbage", "empty"],
)
def test_spoiled_heads_are_found(
    original: Path, folder: Path, spoil: Callable[[str], str]
) -> None:
    """Never good, never a traceback."""
    path = folder / "checkpoints.txt"
    path.write_text(spoil(path.read_text()))
    assert not verify_log.examine(folder, trust=trust(original)).good


@pytest.mark.parametrize("name", ["tile/0/000", "tile/0/002.p/188", "tile/1/000.p/2"])
def test_a_spoiled_tile_is_told_from_a_spoiled_record(
    original: Path, folder: Path, name: str
) -> None:
    """The lines agree with the heads, so it is the tile."""
    path = folder / name
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    report = verify_log.examine(folder, trust=trust(original))
    assert codes(report) == {"tile"}
    assert name.split(".")[0].endswith("0") or "0/2" in report.findings[0].text(0)


def test_a_missing_tile_is_found(original: Path, folder: Path) -> None:
    """It can be made from the records, but an export has it."""
    (folder / "tile/0/001").unlink()
    assert codes(verify_log.examine(folder, trust=trust(original))) == {"tile"}


@pytest.mark.parametrize(
    ("name", "code"), [("17.request.jws", "request"), ("400.reply.jws", "reply")]
)
def test_false_evidence_is_found(
    original: Path, folder: Path, name: str, code: str
) -> None:
    """Another message than the recorded one."""
    path = folder / "evidence" / name
    path.write_text(path.read_text().replace(".", ".A", 1))
    report = verify_log.examine(folder, trust=trust(original))
    assert codes(report) == {code}
    assert report.first_bad == int(name.split(".")[0])


def test_an_ecdsa_signature_encoded_otherwise_is_the_same_evidence(
    original: Path, folder: Path
) -> None:
    """The digest is over the signing input."""
    path = folder / "evidence" / "17.reply.jws"
    path.write_text(path.read_text().rpartition(".")[0] + ".b3RoZXI")
    assert verify_log.examine(folder, trust=trust(original)).good


def test_evidence_without_a_record_is_found(original: Path, folder: Path) -> None:
    """A number beyond the log."""
    (folder / "evidence" / "9000.reply.jws").write_text("a.b.c")
    assert codes(verify_log.examine(folder, trust=trust(original))) == {"no-record"}


def test_records_beyond_the_newest_head_are_named(original: Path, folder: Path) -> None:
    """Not signed yet, so nothing says that they are genuine."""
    lines = lines_of(folder)
    more = lines[-1].replace('"n":699', '"n":700')
    put_lines(folder, [*lines, more])
    report = verify_log.examine(folder, trust=trust(original))
    assert "uncovered" in [n.code for n in report.notes]


def test_heads_not_cosigned_yet_are_named(original: Path, folder: Path) -> None:
    """They rest on the log's own key alone."""
    path = folder / "checkpoints.txt"
    text = path.read_text().rstrip("\n")
    path.write_text(text.rpartition("\n")[0] + "\n")
    report = verify_log.examine(folder, trust=trust(original))
    assert report.good
    assert [n.text(0) for n in report.notes] == [
        "200 records after the newest cosignature rest on the log's own key alone"
    ]


def heads_of(data: bytes) -> list[tuple[str, bytes, tuple[str, bytes]]]:
    """Each head: what was signed, the log's signature, the witness's name and line."""
    parts = data.decode(errors="replace").removesuffix("\n\n").split("\n\n")
    found = []
    for body, signatures in zip(parts[::2], parts[1::2], strict=True):
        (_, _, log), (_, name, witness) = (
            line.split(" ") for line in signatures.split("\n")
        )
        found.append((body, base64.b64decode(log), (name, base64.b64decode(witness))))
    return found


@given(
    at=st.floats(0, 1),
    flip=st.integers(1, 255),
    name=st.sampled_from(
        ["leaves-00000.jsonl", "checkpoints.txt", "tile/0/000", "tile/1/000.p/2"]
    ),
)
@tries(150)
def test_any_flipped_byte_is_found(
    original: Path, at: float, flip: int, name: str
) -> None:
    """Wherever it is: not good, or the same meaning; never a traceback."""
    with memory_folder() as parent:
        folder = parent / "log"
        shutil.copytree(original / "out", folder)
        path = folder / name
        data = bytearray(path.read_bytes())
        where = min(len(data) - 1, int(at * len(data)))
        data[where] ^= flip
        path.write_bytes(data)
        report = verify_log.examine(folder, trust=trust(original))
        left = path.read_bytes()
    if report.good:  # only in a line of the witness, or bits that mean nothing
        assert name == "checkpoints.txt"
        heads = heads_of(left)
        good = heads_of((original / "out" / name).read_bytes())
        assert [head[:2] for head in heads] == [head[:2] for head in good]
        kept = [
            size
            for size, one, two in zip(HEADS, heads, good, strict=True)
            if one == two
        ]
        assert report.facts["cosigned"] == kept[-1]
        missed = [n.values for n in report.notes if n.code == "waiting"]
        assert missed == [(SIZE - kept[-1],)] * (kept[-1] < SIZE)


# --- nothing to check -----------------------------------------------------------------


@pytest.mark.parametrize("keys", ["", "[]", "{}", '{"origin": "x", "audit": []}'])
def test_keys_that_are_none_are_told(folder: Path, keys: str) -> None:
    """Exit 2: not a damaged log, but no judgement."""
    (folder / "keys.json").write_text(keys)
    with pytest.raises(Unusable, match="keys"):
        verify_log.examine(folder)
    assert verify_log.main([str(folder)]) == 2


def test_a_head_that_nobody_signed_is_no_help(original: Path, folder: Path) -> None:
    """A made-up head would make a good log look bad."""
    root = hashlib.sha256(b"other").digest()
    head = Checkpoint(ORIGIN, SIZE, root)
    text = format_checkpoint(head, NoteKey.generate("audit"), ORIGIN)
    with pytest.raises(Unusable, match="--head"):
        verify_log.examine(folder, trust=trust(original), head=text.encode())


def test_the_exit_code_tells(
    original: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 good, 1 not, 2 nothing there; JSON as documented."""
    keys = str(original / "out" / "keys.json")
    assert verify_log.main([str(folder), "--trust", keys, "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["good"], body["first_bad"], body["findings"]) == (True, None, [])
    put_lines(folder, change(lines_of(folder), 20))
    assert verify_log.main([str(folder), "--trust", keys, "--lang", "zh"]) == 1
    assert "首条有问题的记录：20" in capsys.readouterr().out
    assert verify_log.main([str(folder / "absent")]) == 2


# --- one record -----------------------------------------------------------------------


def test_one_record_is_proven_in_less_than_a_kilobyte(original: Path) -> None:
    """With its checkpoint and cosignature."""
    path = original / "17.tlog-proof"
    assert len(path.read_bytes()) < 1024
    report = verify_log.examine_proof(path, trust=trust(original))
    assert report.good
    assert report.facts["cosigned"] == 300


@pytest.mark.parametrize(
    ("suffix", "old", "new", "code"),
    [
        (".leaf", "0000000B", "0000000X", "changed"),
        (".tlog-proof", "index 17", "index 18", "changed"),
        (".tlog-proof", "\n300\n", "\n301\n", "signature"),
    ],
)
def test_a_false_proof_is_found(
    original: Path, tmp_path: Path, suffix: str, old: str, new: str, code: str
) -> None:
    """Another record, place or head."""
    for name in (".leaf", ".tlog-proof"):
        shutil.copy((original / "17").with_suffix(name), tmp_path / f"17{name}")
    path = tmp_path / f"17{suffix}"
    path.write_text(path.read_text().replace(old, new, 1))
    proof = tmp_path / "17.tlog-proof"
    report = verify_log.examine_proof(proof, trust=trust(original))
    assert code in codes(report)


def test_a_proof_needs_keys(original: Path) -> None:
    """It holds none of its own."""
    assert verify_log.main([str(original / "17.tlog-proof")]) == 2


async def test_an_export_is_not_written_over_another(tmp_path: Path) -> None:
    """A mixed folder would prove nothing."""
    async with site(tmp_path / "state") as s:
        await s.log.append(AdminAction(0, "x", None))
        await exported(s.desk(), tmp_path / "out")
        with pytest.raises(UsageFault, match="empty"):
            await exported(s.desk(), tmp_path / "out")


def test_a_witness_line_with_a_false_time_is_found(
    original: Path, folder: Path
) -> None:
    """The time is part of what the witness signed."""
    tree = put_tiles(folder, lines_of(folder))
    head = Checkpoint(ORIGIN, SIZE, tree.root())
    note = format_checkpoint(head, LOG_KEY, ORIGIN)
    line = cosign(head.body(), WITNESS_KEY, WITNESS, TIME)
    data = bytearray(base64.b64decode(line.split(" ")[2]))
    data[11] ^= 1  # the last byte of the time
    false = " ".join([*line.split(" ")[:2], base64.b64encode(data).decode()])
    (folder / "checkpoints.txt").write_text(f"{note}{false}\n")
    assert "cosignature" in codes(verify_log.examine(folder, trust=trust(original)))

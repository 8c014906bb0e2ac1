# SPDX-License-Identifier: Apache-2.0
"""``fep bundle``: canaries are planted wherever something is kept, and sought."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import pytest

from agent.crypto.jose import PrivateKey
from agent.crypto.keys import save_private
from agent.state.migrations import STEPS
from tests.support import cli_json

PASSWORD = "Canary-Passw0rd-7791"
NAME, PINYIN = "欧阳金丝雀", "ouyang_jinsique"
CITIZEN, OLD_CITIZEN = "340102199001011238", "340102900101123"
MOBILE = "13955512345"
CANARIES = (PASSWORD, NAME, PINYIN, CITIZEN, OLD_CITIZEN, MOBILE)
EXPECTED = {
    *("manifest", "versions", "status", "config", "counters", "events", "schemas"),
    *("disk", "system", "time", "tuf"),
}


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A machine's folder with canaries in all that it keeps."""
    save_private(_folder(tmp_path / "keys") / "sign.key", PrivateKey.generate("sign"))
    row = json.dumps({"row": {"name": NAME, "id": CITIZEN, "tel": MOBILE}})
    for name in ("quarantine", "spool", "reconcile", "evidence", "diff"):
        folder = _folder(tmp_path / name)
        (folder / f"{PINYIN}-{CITIZEN}.jsonl").write_text(row)
    (_folder(tmp_path / "secrets") / "rsj").write_text(PASSWORD)
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.execute(f"PRAGMA user_version = {len(STEPS)}")
        db.execute("CREATE TABLE meta (name TEXT, value TEXT)")
        db.execute("INSERT INTO meta VALUES (?, ?)", [NAME, row + PASSWORD])
    settings = tmp_path / "agent.toml"
    with settings.open("a") as file:
        file.write(f"""
# {NAME} {CITIZEN} {PASSWORD}
[sources.rsj]
connector = "postgres"
host = "10.99.1.5"
port = 5432
database = "rsj"
user = "{PINYIN}"
password = {{ file = "secrets/rsj" }}
""")
    return tmp_path


def _folder(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def unpacked(path: Path) -> dict[str, str]:
    """The documents of a bundle, after its manifest was held against them."""
    with zipfile.ZipFile(path) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    files = json.loads(texts["manifest.json"])["files"]
    assert {f["name"]: f["sha256"] for f in files} == {
        name: hashlib.sha256(text.encode()).hexdigest()
        for name, text in texts.items()
        if name != "manifest.json"
    }
    return {name.removesuffix(".json"): text for name, text in texts.items()}


def clean(texts: dict[str, str], folder: Path) -> None:
    """No canary, and nothing of a private key."""
    pem = (folder / "keys" / "sign.key").read_text().splitlines()[1]
    whole = "\n".join(texts.values())
    assert [c for c in (*CANARIES, pem, pem[:24]) if c in whole] == []


def test_bundle_holds_no_secret_and_no_person(fep: Any, planted: Path) -> None:
    """Without a daemon; every document is there, and says what can be known."""
    out = planted / "b.zip"
    said = fep("bundle", "--out", str(out), "--json")
    assert said.code == 0, said.err
    texts = unpacked(out)
    assert texts.keys() == EXPECTED
    clean(texts, planted)
    body = json.loads(said.out)
    assert (body["daemon"], body["path"]) == (False, str(out))
    assert body["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert out.stat().st_mode & 0o777 == 0o600
    settings = json.loads(texts["config"])["settings"]
    (source,) = settings["sources"].values()
    assert (source["host"], source["port"]) == ("10.99.1.5", 5432)
    assert source["user"] == f"(text of {len(PINYIN)} characters)"
    assert json.loads(texts["schemas"])[0]["version"] == len(STEPS)
    assert json.loads(texts["disk"])["folders"]["quarantine"]["files"] == 1
    assert json.loads(texts["status"]) == {"error": "no-daemon"}


def test_bundle_of_broken_settings_shows_where_and_not_what(
    fep: Any, planted: Path
) -> None:
    """A secret where none should stand stays where it stands."""
    with (planted / "agent.toml").open("a") as file:
        file.write(f"""
[sources.{PINYIN}]
connector = "mysql"
password = "{PASSWORD}"
dsn = "mysql://{PINYIN}:{PASSWORD}@10.99.1.6/rsj"
[log]
level = "loud"
operator = "{NAME}"
number = {CITIZEN[:17]}
[{PINYIN}]
x = "{PASSWORD}"
""")
    out = planted / "b.zip"
    assert fep("bundle", "--out", str(out)).code == 0
    texts = unpacked(out)
    clean(texts, planted)
    found = json.loads(texts["config"])
    assert "log.level" in found["faults"]
    assert json.loads(texts["disk"])["folders"]["quarantine"]["files"] == 1


def test_bundle_is_made_without_settings(fep: Any, tmp_path: Path) -> None:
    """Nothing is needed to ask for help."""
    (tmp_path / "agent.toml").unlink()
    said = fep("bundle", "--out", str(tmp_path / "b.zip"))
    assert said.code == 0, said.err
    assert json.loads(unpacked(tmp_path / "b.zip")["config"])["readable"] is False


def test_bundle_never_writes_over_a_file(fep: Any, planted: Path) -> None:
    """Nor through a link."""
    target = planted / "b.zip"
    target.write_text("precious")
    (planted / "link.zip").symlink_to(planted / "elsewhere")
    for name in ("b.zip", "link.zip"):
        assert fep("bundle", "--out", str(planted / name)).code == 2
    assert target.read_text() == "precious"
    assert not (planted / "elsewhere").exists()


def test_answer_is_as_documented(fep: Any, planted: Path) -> None:
    """Member by member."""
    said = fep("bundle", "--out", str(planted / "b.zip"), "--json")
    documented = cli_json.sections()["`fep bundle`"]
    assert cli_json.faults(documented, json.loads(said.out)) == []

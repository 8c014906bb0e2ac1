# SPDX-License-Identifier: Apache-2.0
"""Secrets: by place only, read when used, never shown."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.errors import ConfigInvalid, SecretUnreadable
from agent.settings import Secret, Settings, load
from tests.support.settings_text import write

VALUE = "hunter2-geheim"


def secret_file(folder: Path, value: str = VALUE, mode: int = 0o400) -> Path:
    path = folder / "pw"
    path.write_text(value, "utf-8")
    path.chmod(mode)
    return path


def with_source(folder: Path, password: str) -> Path:
    return write(
        folder,
        f'[sources.a]\nconnector = "postgres"\nhost = "h"\npassword = {password}\n',
    )


def loaded(folder: Path) -> Settings:
    secret_file(folder)
    return load(with_source(folder, '{ file = "pw" }'))


def test_a_secret_is_read_from_a_file_beside_the_settings(tmp_path: Path) -> None:
    """One newline at its end does not count."""
    secret_file(tmp_path, VALUE + "\n")
    found = load(with_source(tmp_path, '{ file = "pw" }'))
    assert found.source_config("a") == {"host": "h", "password": VALUE}


def test_a_secret_is_read_from_a_credential(tmp_path: Path) -> None:
    """$CREDENTIALS_DIRECTORY/<name>, as systemd makes it."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    secret_file(folder)
    path = with_source(tmp_path, '{ credential = "pw" }')
    found = load(path, environ={"CREDENTIALS_DIRECTORY": str(folder)})
    assert found.source_config("a")["password"] == VALUE


def test_without_systemd_a_credential_says_so(tmp_path: Path) -> None:
    """The fault names the key."""
    with pytest.raises(ConfigInvalid, match=r"sources\.a\.password.*LoadCredential="):
        load(with_source(tmp_path, '{ credential = "pw" }'), environ={})


def test_a_changed_secret_is_read_again(tmp_path: Path) -> None:
    """No restart; the fingerprint moves and never tells the value."""
    found = loaded(tmp_path)
    before = found.source_fingerprint("a")
    (tmp_path / "pw").unlink()
    secret_file(tmp_path, "another")
    assert found.source_config("a")["password"] == "another"
    after = found.source_fingerprint("a")
    assert before.keys() == after.keys() == {"password"}
    assert before != after
    assert VALUE not in str(before)


@pytest.mark.parametrize(
    "password",
    [
        f'"{VALUE}"',
        "5",
        "[]",
        "{}",
        "{ file = 5 }",
        '{ file = "" }',
        '{ file = "a", credential = "b" }',
        '{ credential = "../b" }',
        '{ credential = ".." }',
    ],
)
def test_an_inline_secret_is_refused_with_the_remedy(
    tmp_path: Path, password: str
) -> None:
    """And is not repeated in the message."""
    with pytest.raises(ConfigInvalid) as caught:
        load(with_source(tmp_path, password))
    [fault] = caught.value.faults
    assert fault.key == "sources.a.password"
    assert '{ file = "/etc/fep/secrets/NAME" }' in fault.expected
    assert VALUE not in str(caught.value) + repr(caught.value.as_dict())


def test_what_the_connector_calls_secret_is_secret(tmp_path: Path) -> None:
    """Not only the usual names."""
    spec = {"c": {"properties": {"pin": {"type": "string", "secret": True}}}}
    path = write(tmp_path, f'[sources.a]\nconnector = "c"\npin = "{VALUE}"\n')
    with pytest.raises(ConfigInvalid, match=r"sources\.a\.pin") as caught:
        load(path, specs=spec)
    assert VALUE not in str(caught.value)


def test_no_text_of_the_settings_holds_a_secret(tmp_path: Path) -> None:
    """repr, str and JSON tell the place only."""
    found = loaded(tmp_path)
    found.source_config("a")
    assert VALUE not in repr(found) + str(found) + repr(found.sources)


@pytest.mark.parametrize("mode", [0o404, 0o444, 0o604, 0o402, 0o401])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """Reading, writing or searching by others is too much."""
    path = secret_file(tmp_path, mode=mode)
    with pytest.raises(SecretUnreadable, match=f"got mode {mode:04o}"):
        Secret("k", path).read()


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o440])
def test_a_file_closed_to_others_is_read(tmp_path: Path, mode: int) -> None:
    """Owner, and group if a department wants it so."""
    assert Secret("k", secret_file(tmp_path, mode=mode)).read() == VALUE


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "expected a text, got none"),
        (b"\n", "expected a text, got none"),
        (b"a\0b", "expected a text, got none"),
        (b"\xff", "expected UTF-8 text"),
        (b"x" * 65_537, "expected at most 65536 bytes"),
    ],
)
def test_a_useless_secret_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    """Empty, binary, or endless."""
    path = tmp_path / "pw"
    path.write_bytes(content)
    path.chmod(0o400)
    with pytest.raises(SecretUnreadable, match=words):
        Secret("k", path).read()


def test_a_missing_file_a_folder_and_a_pipe_are_named(tmp_path: Path) -> None:
    """A pipe does not make the daemon wait."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o400)
    for path in (tmp_path / "none", tmp_path, pipe):
        with pytest.raises(SecretUnreadable, match=str(path)):
            Secret("k", path).read()
    with pytest.raises(SecretUnreadable, match="No such file"):
        Secret("k", tmp_path / "none").fingerprint()


def test_an_unreadable_secret_is_a_fault_of_the_file_or_of_its_use(
    tmp_path: Path,
) -> None:
    """`config check` lists it; a daemon may load and let the other sources go on."""
    path = with_source(tmp_path, '{ file = "pw" }')
    with pytest.raises(ConfigInvalid) as caught:
        load(path)
    [fault] = caught.value.faults
    assert (fault.key, fault.expected) == ("sources.a.password", "a readable file")
    assert str(tmp_path / "pw") in str(fault.got)
    found = load(path, secrets=False)
    with pytest.raises(SecretUnreadable) as used:
        found.source_config("a")
    assert used.value.code == "secret-unreadable"
    with pytest.raises(SecretUnreadable):
        found.source_fingerprint("a")

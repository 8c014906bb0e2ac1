# SPDX-License-Identifier: Apache-2.0
"""One-time codes, fingerprints, and the files of a site without a line."""

from __future__ import annotations

import base64
import itertools

import pytest
from mnemonic import Mnemonic

from agent.errors import CodeMistyped, MalformedMessage
from agent.wire import enrolment_file
from agent.wire.enrolment import ALPHABET, Code
from agent.wire.enrolment_file import Reply, Request
from agent.wire.fingerprint import Fingerprint

NODE = "11990100MB0000018H/rsj-fep1"
PRINT = Fingerprint(NODE, "sha256:" + "7f" * 32)


def code() -> Code:
    return Code.generate(lambda bits: 0x2D5A17C39E04B86F1D2C3B4A5968 % (1 << bits))


def test_a_code_has_ninety_random_bits_and_its_own_hash() -> None:
    """What is asked of the random source, and no two codes alike in what is kept."""
    asked: list[int] = []

    def bits(n: int) -> int:
        asked.append(n)
        return 0

    assert Code.generate(bits).text.startswith("0000-")
    assert asked == [110]  # 20 of them are the public id
    made = {Code.generate().hash() for _ in range(50)}
    assert len(made) == 50


def test_a_code_survives_how_people_write() -> None:
    """Small letters, blanks, O for zero, I and L for one."""
    text = code().text
    sloppy = text.lower().replace("-", " ").replace("0", "o").replace("1", "l")
    assert Code.parse(f"  {sloppy}\n") == code()
    assert Code.parse(text.replace("1", "I")) == code()


def test_a_mistyped_code_is_never_taken() -> None:
    """Each single wrong character and each two exchanged are found."""
    whole = code().text.replace("-", "")
    wrong = [
        whole[:i] + c + whole[i + 1 :]
        for i in range(len(whole))
        for c in ALPHABET
        if c != whole[i]
    ]
    for i, j in itertools.combinations(range(len(whole)), 2):
        if whole[i] != whole[j]:
            text = list(whole)
            text[i], text[j] = text[j], text[i]
            wrong.append("".join(text))
    for text in wrong:
        with pytest.raises(CodeMistyped):
            Code.parse(text)
    assert len(wrong) > 900


@pytest.mark.parametrize(
    "text", ["", "U" * 24, "0" * 23, "0" * 25, "é" * 24, "0" * 300]
)
def test_what_is_no_code_is_said_without_quoting_it(text: str) -> None:
    """Wrong length or alphabet; the complaint holds nothing of the secret."""
    with pytest.raises(CodeMistyped) as e:
        Code.parse(text)
    assert not text or text not in str(e.value)


def test_a_code_travels_as_a_login() -> None:
    """HTTP Basic with the id as user, as `curl -u` sends it."""
    header = code().login()
    scheme, _, encoded = header.partition(" ")
    user, _, password = base64.b64decode(encoded).decode().partition(":")
    assert (scheme, user, f"{user}-{password}") == ("Basic", code().id, code().text)
    assert Code.of_login(header) == code()
    plain = base64.b64encode(f"{user}:{password.replace('-', '')}".encode()).decode()
    assert Code.of_login("basic " + plain) == code()


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic ===", "Bearer eA==", "Basic /w=="]
)
def test_another_login_is_no_code(header: str) -> None:
    """Nonsense in the header is refused as no code at all."""
    with pytest.raises(CodeMistyped):
        Code.of_login(header)


def test_a_secret_does_not_show_in_a_trace() -> None:
    """The repr, as it stands in tracebacks, has the public id only."""
    assert code().secret not in repr(code())


# --- fingerprints -------------------------------------------------------------------


def test_words_are_the_first_of_the_sentence_that_any_library_makes() -> None:
    """Eight of BIP-39's 24 words for the 32 bytes, in both languages."""
    digest = bytes.fromhex("7f" * 32)
    assert " ".join(PRINT.en) == (
        "legal winner thank year wave sausage worth useful"
    )  # the published vector of 16 bytes 7f begins so, too
    chinese = Mnemonic("chinese_simplified").to_mnemonic(digest).split()
    assert PRINT.zh == tuple(chinese[:8])


def test_other_keys_have_other_words() -> None:
    """A change in the first 88 bits changes a word."""
    for bit in range(88):
        number = int("7f" * 32, 16) ^ 1 << (255 - bit)
        assert Fingerprint(NODE, f"sha256:{number:064x}").en != PRINT.en


def test_a_fingerprint_is_compared_in_any_of_its_forms() -> None:
    """Words of one language, digest, QR code; a part of one, or another node's: no."""
    for said in (
        " ".join(PRINT.en).upper(),
        "".join(PRINT.zh),
        " ".join(PRINT.zh),
        PRINT.statement,
        PRINT.uris,
    ):
        assert PRINT.agrees(said)
    for said in ("", " ".join(PRINT.en[:7]), " ".join(reversed(PRINT.en)), "sha256:"):
        assert not PRINT.agrees(said)
    assert not PRINT.agrees(Fingerprint(NODE + "2", PRINT.statement).uris)


def test_the_qr_code_holds_the_two_uris_of_the_request() -> None:
    """As docs/wire.md says."""
    assert PRINT.uris == f"fep:node/{NODE} fep:keys/sha256/{'7f' * 32}"


# --- files --------------------------------------------------------------------------

REQUEST = Request(NODE, "yunxi.exchange", "PEM", ("a.b.c",), code().text)
REPLY = Reply(NODE, "yunxi.exchange", "CA", "PEM", "a.b.c")


def test_files_come_back_as_they_were_written() -> None:
    """Also without a code."""
    assert enrolment_file.parse_request(REQUEST.payload()) == REQUEST
    bare = Request(NODE, "yunxi.exchange", "PEM", ("a.b.c",), None)
    assert enrolment_file.parse_request(bare.payload()) == bare
    assert enrolment_file.parse_reply(REPLY.payload()) == REPLY


def test_a_file_of_the_other_kind_is_refused() -> None:
    """A request is no reply, and unknown members are refused."""
    with pytest.raises(MalformedMessage, match="reply"):
        enrolment_file.parse_reply(REQUEST.payload())
    more = REPLY.payload()[:-1] + b',"more":1}'
    with pytest.raises(MalformedMessage, match="more"):
        enrolment_file.parse_reply(more)
    odd = REQUEST.payload().replace(b'["a.b.c"]', b"[1]")
    with pytest.raises(MalformedMessage, match="statements"):
        enrolment_file.parse_request(odd)

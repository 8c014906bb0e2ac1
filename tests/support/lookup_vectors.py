# SPDX-License-Identifier: Apache-2.0
"""Writes ``tests/vectors/lookup.json``: ``python -m tests.support.lookup_vectors``.

Signatures and encryption are random, so the texts differ each time; what must be byte
for byte (payload, signing input, digest) does not. Run it only when the format changes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from agent.crypto import jwe
from agent.crypto.jose import PrivateKey, base64url, split
from agent.wire import lookup
from agent.wire.lookup import (
    REPLY_TYP,
    REQUEST_TYP,
    LookupItem,
    Officer,
    PolicyRef,
    Reply,
    Request,
    Result,
)
from tests.support import vectors
from tests.support.forge import Forge

CONSUMER = "11990100MB0000018H/desk-1"
PROVIDER = "11990100000000019F/front-1"
UUID = "01939f5e-7c00-7000-8000-00000000000"
AS_OF = "2026-11-21T08:00:00.25Z"
IAT = 1_795_248_000
PERSON = "110101199003070011"
OTHER = "110101199003070022"

GET = Request(
    iss=CONSUMER,
    aud=PROVIDER,
    jti=UUID + "1",
    iat=IAT,
    exp=IAT + 60,
    op="get",
    resource="990100001/000001",
    items=(LookupItem({"id_number": PERSON}), LookupItem({"id_number": OTHER})),
    fields=("name", "birth_date", "note"),
    purpose="administrative_basis",
    basis="案:CS-2026-00017",
    officer=Officer("zhang.san", "certificate"),
    matter="000187001000",
)
VERIFY = replace(
    GET,
    jti=UUID + "2",
    op="verify",
    items=(
        LookupItem({"id_number": PERSON}, {"name": "张三", "note": None}),
        LookupItem({"id_number": OTHER}, {"name": "李四", "note": ""}),
    ),
    fields=("name", "note"),
    purpose="data_verification",
    matter=None,
)
EXISTS = replace(
    GET, jti=UUID + "3", op="exists", fields=(), matter=None, approval=UUID + "9"
)


def reply(request: Request, digest: str, **changes: Any) -> Reply:
    """An answer to a request."""
    whole: dict[str, Any] = {
        "iss": request.aud,
        "aud": request.iss,
        "jti": UUID + "a",
        "irt": request.jti,
        "req_sha256": digest,
        "iat": IAT + 1,
        "status": "ok",
        "results": (),
        "masked": (),
        "policy": PolicyRef(3, "citizens-window", UUID + "d"),
        "reasons": (),
        **changes,
    }
    return Reply(**whole)


def messages() -> Iterator[dict[str, str]]:
    """Requests and their replies, signed and sealed."""
    digests = {}
    for name, request in (("get", GET), ("verify", VERIFY), ("exists", EXISTS)):
        made = _message(f"request_{name}", REQUEST_TYP, request.payload())
        digests[name] = made["digest"]
        yield made
    for name, answer in _replies(digests):
        yield _message(f"reply_{name}", REPLY_TYP, answer.payload())


def _replies(digests: dict[str, str]) -> Iterator[tuple[str, Reply]]:
    data = {"name": "张*", "birth_date": "1990-03-07", "note": None}
    yield (
        "get",
        reply(
            GET,
            digests["get"],
            results=(
                Result(0, "ok", data, None, AS_OF),
                Result(1, "no_match", None, None, AS_OF),
            ),
            masked=("name",),
        ),
    )
    match, none = {"name": "match", "note": "mismatch"}, "no_record"
    yield (
        "verify",
        reply(
            VERIFY,
            digests["verify"],
            results=(
                Result(0, "ok", None, match, AS_OF),  # type: ignore[arg-type]
                Result(1, "no_match", None, {"name": none, "note": none}, AS_OF),  # type: ignore[dict-item]
            ),
        ),
    )
    found = (
        Result(0, "ok", None, None, AS_OF),
        Result(1, "no_match", None, None, AS_OF),
    )
    yield "exists", reply(EXISTS, digests["exists"], results=found)
    nobody = PolicyRef(0, None, UUID + "e")
    for status, reasons in (
        ("denied", ("grant", "field")),
        ("error", ("source",)),
        ("pending", ("approval",)),
    ):
        yield (
            status,
            reply(GET, digests["get"], status=status, reasons=reasons, policy=nobody),
        )


def _message(name: str, typ: str, payload: bytes) -> dict[str, str]:
    asks = typ == REQUEST_TYP
    signer, opener = (
        ("consumer_sign", "decrypt")
        if asks
        else (
            "sign",
            "consumer_decrypt",
        )
    )
    iss, aud = (CONSUMER, PROVIDER) if asks else (PROVIDER, CONSUMER)
    jws = vectors.key(signer).sign(typ, payload)
    to = vectors.key(opener).public
    return {
        "name": name,
        "typ": typ,
        "key": signer,
        "to": opener,
        "payload": payload.decode(),
        "signing_input": jws.rpartition(".")[0],
        "digest": split(jws, cap=1 << 20).digest,
        "jws": jws,
        "jwe": jwe.seal(jws, to=to, cty=typ, iss=iss, aud=aud),
    }


# --- what must be refused ---------------------------------------------------------

Change = Callable[[Forge], None]


def header(**members: Any) -> Change:
    """Other or further members of the header."""
    return lambda forge: forge.header.update(members)


def epk(**members: Any) -> Change:
    """Other or further members of the sender's key."""
    return lambda forge: forge.epk.update(members)


def without(name: str) -> Change:
    """A member less."""
    return lambda forge: forge.header.pop(name)


def exact(old: str, new: str) -> Change:
    """Other bytes of the header."""

    def change(forge: Forge) -> None:
        text = json.dumps(forge.header, separators=(",", ":"))
        assert old in text
        forge.head = text.replace(old, new, 1).encode()

    return change


def plain(change: Callable[[bytes], bytes]) -> Change:
    """Another plaintext."""

    def apply(forge: Forge) -> None:
        forge.plain = change(forge.plain)

    return apply


def _off_curve(forge: Forge) -> None:
    y = bytearray(_bytes(forge.epk["y"]))
    y[31] ^= 1
    forge.epk["y"] = base64url(bytes(y))


def _in_array(forge: Forge) -> None:
    forge.head = json.dumps([forge.header]).encode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


JWK = {"kty": "oct", "k": "AAAA"}
SEALED: tuple[tuple[str, str, Change], ...] = (
    ("alg_dir", "alg is ECDH-ES+A256KW", header(alg="dir")),
    ("alg_ecdh_es", "no direct agreement", header(alg="ECDH-ES")),
    ("alg_a128kw", "no other wrap", header(alg="ECDH-ES+A128KW")),
    ("alg_rsa", "no RSA", header(alg="RSA-OAEP")),
    ("alg_pbes2", "no password", header(alg="PBES2-HS256+A128KW")),
    ("alg_none", "no none", header(alg="none")),
    ("alg_case", "names are compared byte for byte", header(alg="ecdh-es+a256kw")),
    ("enc_cbc", "enc is A256GCM", header(enc="A256CBC-HS512")),
    ("enc_a128gcm", "no shorter key", header(enc="A128GCM")),
    ("zip", "no compression", header(zip="DEF")),
    ("crit", "no critical extensions", header(crit=["exp"])),
    ("jwk", "no key in a message", header(jwk=JWK)),
    ("jku", "no address of keys", header(jku="https://keys.example/")),
    ("x5u", "no address of certificates", header(x5u="https://keys.example/")),
    ("x5c", "no certificates", header(x5c=["AAAA"])),
    ("apu", "no agreement info", header(apu="QQ", apv="Qg")),
    ("typ", "no typ", header(typ="JOSE")),
    ("p2c", "no count", header(p2c=1_000_000)),
    ("no_iss", "iss is needed", without("iss")),
    ("no_cty", "cty is needed", without("cty")),
    ("no_epk", "epk is needed", without("epk")),
    ("iss_number", "texts only", header(iss=1)),
    ("iss_empty", "1 to 256 characters", header(iss="")),
    ("aud_long", "1 to 256 characters", header(aud="A" * 257)),
    ("cty_foreign", "cty is the typ of a known message", header(cty="JWT")),
    ("kid_short", "kid is a thumbprint", header(kid="short")),
    ("duplicate_alg", "every member once", exact('{"alg"', '{"alg":"dir","alg"')),
    (
        "duplicate_escaped",
        "every member once, however it is written",
        exact('{"alg"', '{"\\u0061lg":"dir","alg"'),
    ),
    ("duplicate_in_epk", "every member once", exact('"kty"', '"kty":"oct","kty"')),
    ("header_array", "an object", _in_array),
    ("header_text", "an object", exact("{", '"{')),
    (
        "header_deep",
        "texts only",
        exact(f'"iss":"{CONSUMER}"', '"iss":' + "[" * 400 + "]" * 400),
    ),
    ("header_long", "at most 2048 characters", header(iss="A" * 2000)),
    ("header_nan", "texts only", exact('"iss":"' + CONSUMER + '"', '"iss":NaN')),
    ("header_bom", "no byte order mark", exact("{", "\ufeff{")),
    ("epk_array", "epk is an object", header(epk=["EC"])),
    ("epk_private", "no further member in epk", epk(d="AAAA")),
    ("epk_kid", "no further member in epk", epk(kid="x")),
    ("epk_p384", "P-256 only", epk(crv="P-384")),
    ("epk_okp", "P-256 only", epk(kty="OKP", crv="X25519")),
    ("epk_short", "coordinates have 32 bytes", epk(x="AAAA")),
    ("epk_padded", "base64url without padding", epk(x="A" * 43 + "=")),
    ("epk_zero", "a point on the curve", epk(x="A" * 43, y="A" * 43)),
    ("epk_off_curve", "a point on the curve", _off_curve),
    ("padding_none", "a plaintext of 1 KiB at least", plain(bytes.rstrip)),
    ("padding_2048", "no other size", plain(lambda p: p.ljust(2048))),
    ("padding_1025", "no other size", plain(lambda p: p.ljust(1025))),
    ("padding_empty", "no other size", plain(lambda p: b"")),
    ("padding_tabs", "spaces only", plain(lambda p: p.rstrip().ljust(1024, b"\t"))),
    ("padding_zeros", "spaces only", plain(lambda p: p.rstrip().ljust(1024, b"\0"))),
    (
        "padding_front",
        "spaces after, not before",
        plain(lambda p: p.rstrip().rjust(1024)),
    ),
    ("inside_json", "a JWS inside", plain(lambda p: b'{"v":1}'.ljust(1024))),
    ("inside_nothing", "a JWS inside", plain(lambda p: b" " * 1024)),
    (
        "inside_two",
        "one JWS inside",
        plain(lambda p: (p.rstrip() + b" " + b"a.b.c").ljust(1024)),
    ),
)
"""Name, the rule that refuses it, and what is other than it should be."""


def _split(text: str, part: int, new: str) -> str:
    parts = text.split(".")
    parts[part] = new
    return ".".join(parts)


SHAPES: tuple[tuple[str, str, Callable[[str, str], str]], ...] = (
    ("bare_jws", "a bare JWS is refused", lambda jwe_, jws: jws),
    ("four_segments", "five segments", lambda t, _: t.rpartition(".")[0]),
    ("six_segments", "five segments", lambda t, _: t + ".AAAA"),
    ("line_feed", "nothing after it", lambda t, _: t + "\n"),
    ("space_inside", "base64url only", lambda t, _: t.replace(".", " .", 1)),
    ("padded_tag", "no base64 padding", lambda t, _: t + "=="),
    ("standard_base64", "base64url only", lambda t, _: _split(t, 4, "+" * 22)),
    ("loose_tag", "no loose bits", lambda t, _: t[:-1] + _loose(t[-1])),
    ("short_tag", "a tag of 16 bytes", lambda t, _: _split(t, 4, "AAAA")),
    ("long_iv", "an iv of 12 bytes", lambda t, _: _split(t, 2, "A" * 22)),
    ("other_wrap", "40 bytes of wrapped key", lambda t, _: _split(t, 1, "A" * 32)),
    ("altered_wrap", "the key unwraps", lambda t, _: _split(t, 1, "A" * 54)),
    ("altered_iv", "the tag verifies", lambda t, _: _split(t, 2, "A" * 16)),
    ("altered_tag", "the tag verifies", lambda t, _: _split(t, 4, "A" * 22)),
    ("json_form", "the compact form only", lambda t, _: json.dumps({"ciphertext": t})),
)


def _loose(last: str) -> str:
    """The character with the same significant bits (2 of 6) and other loose ones."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(last) | 1]


def refused_sealed() -> Iterator[dict[str, str]]:
    """Sealed messages that do not open, with the key that they are for."""
    jws = vectors.key("consumer_sign").sign(REQUEST_TYP, GET.payload())
    to = vectors.key("decrypt")
    for name, why, change in SEALED:
        forge = Forge(to.public, jws, cty=REQUEST_TYP, iss=CONSUMER, aud=PROVIDER)
        change(forge)
        yield {"name": name, "why": why, "to": "decrypt", "text": forge.text()}
    good = Forge(to.public, jws, cty=REQUEST_TYP, iss=CONSUMER, aud=PROVIDER).text()
    for name, why, shape in SHAPES:
        yield {"name": name, "why": why, "to": "decrypt", "text": shape(good, jws)}


def contradictions() -> Iterator[dict[str, str]]:
    """Sealed messages that open, but whose header is not what is inside."""
    own, receipt = vectors.key("consumer_sign"), vectors.key("receipt")
    jws = own.sign(REQUEST_TYP, GET.payload())
    other = "11990100MB0000018H/desk-2"
    cases: tuple[tuple[str, str, str, dict[str, str]], ...] = (
        ("iss_differs", "iss equals the claim", jws, {"iss": other}),
        ("aud_differs", "aud equals the claim", jws, {"aud": other}),
        ("cty_differs", "cty equals the inner typ", jws, {"cty": REPLY_TYP}),
        (
            "receipt_inside",
            "cty equals the inner typ",
            receipt.sign("fep-receipt+jws", GET.payload()),
            {},
        ),
        (
            "signed_by_another",
            "the key of kid signed it",
            _foreign(jws, PrivateKey.generate("sign")),
            {},
        ),
        (
            "reply_as_request",
            "the inner typ is the one expected",
            own.sign(REPLY_TYP, GET.payload()),
            {"cty": REPLY_TYP},
        ),
    )
    for name, why, inner, changes in cases:
        forge = Forge(
            vectors.key("decrypt").public,
            inner,
            cty=REQUEST_TYP,
            iss=CONSUMER,
            aud=PROVIDER,
        )
        forge.header.update(changes)
        yield {"name": name, "why": why, "to": "decrypt", "text": forge.text()}


def _foreign(jws: str, key: PrivateKey) -> str:
    """The message with a signature of another key under the same kid."""
    signature = key.sign(REQUEST_TYP, b"{}").rpartition(".")[2]
    return f"{jws.rpartition('.')[0]}.{signature}"


def main() -> None:
    """Write the file."""
    body = {
        "_about": (
            "Lookups of wire format 1: messages, signed by keys/<key>.pem and sealed to"
            " keys/<to>.pem. payload, signing_input and digest are what they must be"
            " byte for byte; jws verifies, jwe opens. Of refused_sealed nothing opens;"
            " of contradictions everything opens, and the named rule refuses it."
        ),
        "caps": {"request": lookup.REQUEST_CAP, "reply": lookup.REPLY_CAP},
        "rooms": {"request": lookup.REQUEST_ROOM, "reply": lookup.REPLY_ROOM},
        "messages": list(messages()),
        "refused_sealed": list(refused_sealed()),
        "contradictions": list(contradictions()),
    }
    text = json.dumps(body, ensure_ascii=False, indent=1) + "\n"
    (vectors.VECTORS / "lookup.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""A client of the exchange that shares no code with the agent or the sandbox.

It signs with ``cryptography``, talks with ``http.client`` and builds every message by
hand from wire.md, so that a misunderstanding that agent and sandbox share is seen.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import http.client
import json
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils

RSJ = "11990100MB1234567X/qz1"
GAJ = "11990100MB7654321Y/qz1"
POPULATION = "990100/rk/person"
ITEMS: list[dict[str, Any]] = [
    {"name": "id", "type": "C", "length": 18, "scale": None, "key": True, "share": "1"},
    {
        "name": "name",
        "type": "C",
        "length": 30,
        "scale": None,
        "key": False,
        "share": "1",
    },
    {
        "name": "age",
        "type": "I",
        "length": None,
        "scale": None,
        "key": False,
        "share": "2",
    },
]
_FIELDS: list[pa.Field[Any]] = [
    pa.field("_op", pa.string(), nullable=False),
    pa.field("id", pa.string(), nullable=False),
    pa.field("name", pa.string()),
    pa.field("age", pa.int64()),
]
SCHEMA = pa.schema(_FIELDS)
INCARNATION = "0" * 31 + "1"


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """The bytes of base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Key:
    """A P-256 key that signs compact JWS."""

    def __init__(self, purpose: str = "sign") -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        numbers = self.private.public_key().public_numbers()
        self.jwk = {
            "kty": "EC",
            "crv": "P-256",
            "x": b64(numbers.x.to_bytes(32, "big")),
            "y": b64(numbers.y.to_bytes(32, "big")),
        }
        names = ("crv", "kty", "x", "y")
        text = json.dumps({n: self.jwk[n] for n in names}, separators=(",", ":"))
        self.kid = b64(hashlib.sha256(text.encode()).digest())
        alg = "ECDH-ES+A256KW" if purpose == "decrypt" else "ES256"
        self.jwk |= {"alg": alg, "purpose": purpose}

    def sign(self, typ: str, body: object, **header: Any) -> str:
        """A compact JWS; header members may be replaced or added."""
        head = {"alg": "ES256", "kid": self.kid, "typ": typ} | header
        parts = [json.dumps(p, separators=(",", ":")).encode() for p in (head, body)]
        signing_input = ".".join(b64(p) for p in parts)
        der = self.private.sign(signing_input.encode(), ec.ECDSA(hashes.SHA256()))
        r, s = utils.decode_dss_signature(der)
        raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return f"{signing_input}.{b64(raw)}"

    def pem(self) -> bytes:
        """PKCS#8."""
        return self.private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


class AuditKey:
    """An Ed25519 key that signs checkpoints."""

    def __init__(self) -> None:
        self.private = ed25519.Ed25519PrivateKey.generate()
        self.raw = self.private.public_key().public_bytes_raw()
        self.jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(self.raw)}
        self.jwk |= {"alg": "Ed25519", "purpose": "audit"}


def digest(message: str) -> str:
    """Message digest: over the signing input."""
    signing_input = message.rpartition(".")[0]
    return "sha256:" + hashlib.sha256(signing_input.encode()).hexdigest()


def payload(message: str) -> dict[str, Any]:
    """The JSON of a message; its signature is not checked."""
    body: dict[str, Any] = json.loads(unb64(message.split(".")[1]))
    return body


def verify(message: str, jwk: dict[str, str]) -> dict[str, Any]:
    """The JSON of a message that a key signed."""
    signing_input, _, signature = message.rpartition(".")
    raw = unb64(signature)
    assert len(raw) == 64
    der = utils.encode_dss_signature(
        int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    )
    x, y = (int.from_bytes(unb64(jwk[n]), "big") for n in ("x", "y"))
    key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    key.verify(der, signing_input.encode(), ec.ECDSA(hashes.SHA256()))
    return payload(message)


def arrow(rows: Sequence[tuple[Any, ...]], schema: pa.Schema = SCHEMA) -> bytes:
    """An Arrow IPC stream of rows ``(_op, item, ...)``, ZSTD, with its end marker."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, schema, options=options) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return bytes(sink.getvalue())


def raw_size(data: bytes) -> int:
    """Sum of the decompressed bytes of all buffers of a compressed stream."""
    with pa.ipc.open_stream(data) as reader:
        columns = [column for batch in reader for column in batch.columns]
    buffers = [b for column in columns for b in column.buffers() if b is not None]
    return sum(b.size for b in buffers)


@dataclass
class Answer:
    """A response, read wholly."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def problem(self) -> str:
        """Code of a problem document."""
        assert self.headers.get_content_type() == "application/problem+json"
        body = json.loads(self.body)
        assert body["status"] == self.status
        prefix, _, code = body["type"].rpartition(":")
        assert prefix == "urn:fep:problem"
        return str(code)

    @property
    def members(self) -> dict[str, Any]:
        """All members of a JSON body."""
        body: dict[str, Any] = json.loads(self.body)
        return body

    @property
    def receipt(self) -> dict[str, Any]:
        """Payload of the receipt in ``Fep-Receipt``."""
        return payload(self.headers["Fep-Receipt"])


class Node:
    """A node with keys and, after :meth:`enrol`, a certificate.

    Args:
        address: host and port of the exchange.
        ca: PEM file of its authority.
        folder: for key and certificate files.
    """

    def __init__(
        self, address: tuple[str, int], ca: Path, folder: Path, node: str = RSJ
    ) -> None:
        self.address = address
        self.node = node
        self.folder = folder
        self._ca = ca
        folder.mkdir(parents=True, exist_ok=True)
        self.tls, self.key = Key("tls"), Key("sign")
        self.decrypt, self.audit = Key("decrypt"), AuditKey()
        keys: list[Key | AuditKey] = [self.tls, self.key, self.decrypt, self.audit]
        self.statement = self.key_statement(1, keys, self.key)
        self.context = ssl.create_default_context(cafile=str(ca))

    # --- enrolment ----------------------------------------------------------------

    def key_statement(self, n: int, keys: Sequence[Key | AuditKey], signer: Key) -> str:
        """``fep-keys+jws``."""
        body = {
            "v": 1,
            "node": self.node,
            "n": n,
            "keys": [k.jwk for k in keys],
            "not_before": "2026-11-21T08:00:00Z",
        }
        return signer.sign("fep-keys+jws", body)

    def csr(self, *uris: str) -> bytes:
        """Base64 PKCS#10 made by openssl, by default with the two right URIs."""
        hexes = digest(self.statement).removeprefix("sha256:")
        names = uris or (f"fep:node/{self.node}", f"fep:keys/sha256/{hexes}")
        key = self.folder / "tls.key"
        key.write_bytes(self.tls.pem())
        san = "subjectAltName=" + ",".join(f"URI:{name}" for name in names)
        command = ["openssl", "req", "-new", "-key", str(key), "-subj", "/CN=fep"]
        command += [*(["-addext", san] if names != ("",) else []), "-outform", "DER"]
        made = subprocess.run(command, check=True, capture_output=True)
        return base64.encodebytes(made.stdout)

    def take_certificate(self, body: bytes) -> None:
        """Keep a PKCS#7 certs-only answer and show it from now on."""
        certificate = self.folder / "tls.pem"
        command = ["openssl", "pkcs7", "-inform", "DER", "-print_certs"]
        made = subprocess.run(
            command, input=base64.b64decode(body), check=True, capture_output=True
        )
        certificate.write_bytes(made.stdout)
        (self.folder / "tls.key").write_bytes(self.tls.pem())
        self.context = ssl.create_default_context(cafile=str(self._ca))
        self.context.load_cert_chain(certificate, self.folder / "tls.key")

    def enrol(self) -> None:
        """Certificate and keys, as an agent would get them."""
        answer = self.ask("POST", "/.well-known/est/simpleenroll", self.csr())
        assert answer.status == 200, answer.body
        self.take_certificate(answer.body)
        answer = self.ask("POST", "/v1/keys", self.statement.encode())
        assert answer.status == 201, answer.body

    # --- requests -----------------------------------------------------------------

    @contextmanager
    def connection(self) -> Iterator[http.client.HTTPSConnection]:
        """One TLS connection."""
        host, port = self.address
        found = http.client.HTTPSConnection(
            host, port, timeout=30, context=self.context
        )
        try:
            yield found
        finally:
            found.close()

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> Answer:
        """One request on a connection of its own; ``_`` in header names is ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with self.connection() as connection:
            connection.request(method, path, body, named)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def get(self, path: str, **query: object) -> Answer:
        """GET with a query."""
        return self.ask("GET", f"{path}?{urlencode(query)}" if query else path)

    def position(self, resource: str = POPULATION) -> dict[str, Any]:
        """Payload of the stream's position."""
        nonce = b64(hashlib.sha256(resource.encode()).digest()[:24])
        answer = self.get("/v1/position", resource=resource, nonce=nonce)
        assert answer.status == 200, answer.body
        body = payload(answer.body.decode())
        assert body["nonce"] == nonce
        return body

    def receipt(self, epoch: int, seq: int, resource: str = POPULATION) -> Any:
        """Payload of a batch's newest receipt."""
        answer = self.get("/v1/receipt", resource=resource, epoch=epoch, seq=seq)
        assert answer.status == 200, answer.body
        return payload(answer.body.decode())

    def wait_receipt(
        self, epoch: int, seq: int, resource: str = POPULATION
    ) -> dict[str, Any]:
        """The receipt once it is not ``stored`` any more."""
        until = time.monotonic() + 30
        while True:
            body: dict[str, Any] = self.receipt(epoch, seq, resource)
            if body["state"] != "stored":
                return body
            assert time.monotonic() < until, body
            time.sleep(0.01)

    # --- uploads ------------------------------------------------------------------

    def create(self, length: int, body: bytes = b"", **headers: str) -> Answer:
        """tus creation, with bytes if there are any."""
        named = {"Tus_Resumable": "1.0.0", "Upload_Length": str(length)}
        if body:
            named["Content_Type"] = "application/offset+octet-stream"
        return self.ask("POST", "/v1/batches", body, **(named | headers))

    def patch(self, location: str, offset: int, body: bytes) -> Answer:
        """tus PATCH."""
        return self.ask(
            "PATCH",
            location,
            body,
            Tus_Resumable="1.0.0",
            Upload_Offset=str(offset),
            Content_Type="application/offset+octet-stream",
        )

    def head(self, location: str) -> Answer:
        """tus HEAD."""
        return self.ask("HEAD", location, Tus_Resumable="1.0.0")

    def send(self, batch: Batch) -> Answer:
        """A whole batch in one request."""
        data = batch.file()
        return self.create(len(data), data)


@dataclass
class Batch:
    """A batch file in the making; change ``manifest`` or ``data`` to break it."""

    key: Key
    manifest: dict[str, Any]
    data: bytes
    typ: str = "fep-batch+jws"
    header: dict[str, Any] = field(default_factory=dict)
    _line: str = ""

    @property
    def line(self) -> str:
        """Line 1; signed once."""
        if not self._line:
            self._line = self.key.sign(self.typ, self.manifest, **self.header)
        return self._line

    @property
    def digest(self) -> str:
        """Its message digest."""
        return digest(self.line)

    def file(self) -> bytes:
        """Line 1, LF, payload."""
        return self.line.encode() + b"\n" + self.data


class Stream:
    """Seals batches of one resource, each following the last one that was kept."""

    def __init__(
        self,
        node: Node,
        resource: str = POPULATION,
        *,
        aud: str = "yunxi.exchange",
        items: Sequence[dict[str, Any]] = tuple(ITEMS),
        schema: pa.Schema = SCHEMA,
    ) -> None:
        self.node = node
        self.resource = resource
        self.aud = aud
        self.schema = schema
        self.epoch, self.seq = 1, 0
        self.prev: str | None = None
        self.incarnation = INCARNATION
        self.reason: str | None = "first"
        self.version = 1
        self.statement = self.catalog(1, items)

    def catalog(self, version: int, items: Sequence[dict[str, Any]]) -> str:
        """``fep-catalog+jws``."""
        body = {
            "v": 1,
            "producer": self.node.node,
            "resource": self.resource,
            "version": version,
            "canon": 1,
            "items": list(items),
        }
        return self.node.key.sign("fep-catalog+jws", body)

    def put_catalog(self) -> Answer:
        """PUT of the stream's statement."""
        return self.node.ask("PUT", "/v1/catalog", self.statement.encode())

    def follow(self, version: int, items: Sequence[dict[str, Any]]) -> None:
        """A new catalog version, known to the exchange."""
        self.version, self.statement = version, self.catalog(version, items)
        assert self.put_catalog().status == 201

    def next(self, rows: Sequence[tuple[Any, ...]] = (), **changes: Any) -> Batch:
        """The batch after the last kept one; ``changes`` replace manifest members."""
        mode = changes.get("mode", "incremental")
        data = b"" if mode == "unchanged" else arrow(rows, self.schema)
        ops = [row[0] for row in rows]
        counts = {
            "upsert": ops.count("u"),
            "delete": ops.count("d"),
            "keep": ops.count("k"),
        }
        manifest = {
            "v": 1,
            "aud": self.aud,
            "producer": self.node.node,
            "resource": self.resource,
            "catalog": {"version": self.version, "digest": digest(self.statement)},
            "stream": {
                "epoch": self.epoch,
                "seq": self.seq + 1,
                "prev": self.prev,
                "incarnation": self.incarnation,
                "reason": self.reason if self.seq == 0 else None,
            },
            "content": {
                "size": len(data),
                "raw_size": raw_size(data) if data else 0,
                "digest": "sha256:" + hashlib.sha256(data).hexdigest(),
            },
            "rows": counts,
            "mode": mode,
            "snapshot": None,
            "deletes_confirmed": None,
            "as_of": "2026-11-21T08:00:00Z",
            "run_end": True,
            "quality": {
                "read": counts["upsert"] + counts["keep"],
                "quarantined": counts["keep"],
                "skipped": 0,
            },
            "sealed_at": "2026-11-21T08:00:01Z",
            "agent": "by-hand/1",
        } | changes
        return Batch(self.node.key, manifest, data)

    def part(
        self,
        rows: Sequence[tuple[Any, ...]],
        *,
        snapshot: str = "01934b00-0000-7000-8000-000000000001",
        part: int = 1,
        total: int | None = None,
        **changes: Any,
    ) -> Batch:
        """A part of a snapshot; the final one if ``total`` is given."""
        place = {
            "id": snapshot,
            "part": part,
            "final": total is not None,
            "rows": total,
        }
        changes = {"mode": "full", "snapshot": place} | changes
        return self.next(rows, **changes)

    def keep(self, batch: Batch) -> None:
        """The batch was stored: the next one follows it."""
        self.epoch = batch.manifest["stream"]["epoch"]
        self.seq = batch.manifest["stream"]["seq"]
        self.prev = batch.digest

    def new_epoch(self, reason: str = "rejected") -> None:
        """The next batch begins a new epoch."""
        self.epoch, self.seq, self.reason = self.epoch + 1, 0, reason

    def push(self, batch: Batch) -> dict[str, Any]:
        """Send, expect ``stored``, and follow it."""
        answer = self.node.send(batch)
        assert answer.status == 201, answer.body
        receipt = answer.receipt
        assert receipt["state"] == "stored", receipt
        self.keep(batch)
        return receipt

    def load(self, batch: Batch) -> dict[str, Any]:
        """Push and wait until it is loaded or rejected."""
        self.push(batch)
        return self.node.wait_receipt(self.epoch, self.seq, self.resource)


def changed(manifest: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy with one member replaced; ``path`` is like ``stream.epoch``."""
    copied = copy.deepcopy(manifest)
    *way, last = path.split(".")
    place = copied
    for name in way:
        place = place[name]
    place[last] = value
    return copied

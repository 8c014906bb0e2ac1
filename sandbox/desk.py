# SPDX-License-Identifier: Apache-2.0
"""What changes the registry on a request: keys, catalogs, batches, an admin's word.

Every method is one transaction and runs in the writer's thread. What a client may not
do is a :class:`~sandbox.accept.Refused`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from agent.crypto.jose import Verified, split
from agent.errors import BadSignature, MalformedMessage
from agent.model.batch import BatchId
from agent.wire import catalog, keys, leave
from agent.wire.keys import KeyChain
from sandbox.accept import Admit, Refused, Reject, authentic, chain, check_status, place
from sandbox.load import batch_path
from sandbox.options import Options
from sandbox.replies import Signer
from sandbox.store import Due, KeyRecord, Known, Store
from sandbox.tls import Client


@dataclass(frozen=True)
class Desk:
    """The registry's writer with what it needs to decide and to sign."""

    store: Store
    signer: Signer
    options: Options
    batches: Path

    # --- keys ---------------------------------------------------------------------

    def bind_node(self, node: str, statement: str) -> None:
        """Tie a node to the key statement of its first request.

        Raises:
            Refused: forbidden; it is tied to another.
        """
        with self.store.transaction():
            if self.store.left(node):
                raise Refused("forbidden", f"{node} has left; a reset lets it back")
            if not self.store.bind_node(node, statement, now=self.signer.now()):
                raise Refused("forbidden", f"{node} enrolled with other keys")

    def put_keys(self, client: Client, text: bytes) -> bool:
        """Keep a node's next key statement; False if it is known.

        Raises:
            Refused: not this client's, not next, or not signed as the chain demands.
            MalformedMessage: not a key statement.
        """
        message = split(text, cap=keys.CAP)
        if message.typ != keys.TYP:
            raise MalformedMessage(f"header.typ: expected {keys.TYP}")
        statement = keys.parse(message.payload)
        if statement.node != client.node:
            raise Refused("forbidden", f"the certificate is not {statement.node}'s")
        with self.store.transaction():
            if self.store.enrolled(client.node) != client.statement:
                raise Refused("forbidden", f"{client.node} enrolled with other keys")
            known = self.store.statements(client.node)
            if 1 <= statement.n <= len(known):
                if split(known[statement.n - 1], cap=keys.CAP).digest != message.digest:
                    raise Refused("fork", f"statement {statement.n} is another one")
                return False
            if statement.n != len(known) + 1:
                raise Refused("chain-gap", f"expected statement {len(known) + 1}")
            if statement.n == 1 and message.digest != client.statement:
                raise Refused("forbidden", "the certificate names another statement")
            signer = self.store.key(message.kid)
            if signer is not None:
                check_status(signer, self.signer.now())
            self._keep_keys(_chain([*known, message.text]))
        return True

    def _keep_keys(self, found: KeyChain) -> None:
        """Keys of the newest statement are active, those it leaves out retire."""
        now = self.signer.now()
        newest = found.messages[-1]
        self.store.add_statement(
            found.node,
            len(found.messages),
            digest=newest.digest,
            message=newest.text,
            now=now,
        )
        live = {key.kid for key in found.live}
        until = now + timedelta(days=self.options.retired_days)
        for kid, key in found.all.items():
            record = self.store.key(kid)
            if record is not None and record.node != found.node:
                raise Refused("forbidden", f"{kid} is another node's")
            if kid in live and record is None:
                self.store.put_key(KeyRecord(key, found.node, "active", now, None))
            elif kid not in live and record is not None and record.status == "active":
                old = replace(record, status="retired", since=now, until=until)
                self.store.put_key(old)

    def revoke(self, kid: str) -> None:
        """Refuse a key from now on.

        Raises:
            Refused: not-found.
        """
        with self.store.transaction():
            record = self.store.key(kid)
            if record is None:
                raise Refused("not-found", "no such key")
            now = self.signer.now()
            gone = replace(record, status="revoked", since=now, until=None)
            self.store.put_key(gone)

    def revoke_node(self, node: str) -> None:
        """Refuse a node and all its keys from now on.

        Raises:
            Refused: not-found.
        """
        with self.store.transaction():
            if self.store.enrolled(node) is None:
                raise Refused("not-found", "no such node")
            self.store.revoke_node(node, now=self.signer.now())

    def give(self, resource: str, node: str) -> None:
        """Give a resource to another node; its stream goes on in a new epoch.

        Raises:
            Refused: not-found.
        """
        with self.store.transaction():
            known = self.store.enrolled(node) is not None
            if not known or not self.store.give_owner(resource, node):
                raise Refused("not-found", "no such resource, or no such node")

    def forget(self, node: str, *, reason: str) -> None:
        """Let a node enrol anew with other keys; its old ones are revoked from now."""
        self.store.forget_node(node, reason=reason, now=self.signer.now())

    def leave(self, client: Client, text: bytes) -> None:
        """A node says that it will not come again.

        Raises:
            Refused: not this client's word, or of another exchange.
            MalformedMessage: no such message.
        """
        unverified = split(text, cap=leave.CAP)
        message, key = authentic(unverified, self.store, typ=leave.TYP)
        said = leave.parse(message.payload)
        if said.node != client.node or key.node != client.node:
            raise Refused("forbidden", f"the certificate is not {said.node}'s")
        if said.aud != self.signer.aud:
            raise Refused("wrong-exchange", f"this is {self.signer.aud}")
        now = self.signer.now()
        check_status(key, now)
        if abs(now.timestamp() - said.iat) > leave.SKEW_S:
            raise Refused("malformed", "iat: expected one of just now")
        with self.store.transaction():
            self.store.depart(client.node, now=now)

    # --- catalogs -----------------------------------------------------------------

    def put_catalog(self, client: Client, text: bytes) -> bool:
        """Keep a catalog statement; False if it is known. The first gives ownership.

        Raises:
            Refused: not this client's, a re-used version, another node's resource.
            MalformedMessage: not a catalog statement.
        """
        unverified = split(text, cap=catalog.CAP)
        message, key = authentic(unverified, self.store, typ=catalog.TYP)
        statement = catalog.parse(message.payload)
        if statement.producer != client.node or key.node != client.node:
            raise Refused("forbidden", f"the certificate is not {statement.producer}'s")
        check_status(key, self.signer.now())
        with self.store.transaction():
            owner = self.store.owner(statement.resource)
            if owner not in (None, client.node):
                raise Refused("not-owner", f"{statement.resource} is another node's")
            if self.store.statement(message.digest) is not None:
                return False
            newest = self.store.version(client.node, statement.resource)
            known = None if newest is None else self.store.statement(newest[1])
            if (
                newest is not None
                and statement.version <= newest[0]
                and statement != known  # the same under another key is no fork
            ):
                raise Refused(
                    "fork", f"expected a version above {newest[0]}, or its statement"
                )
            if owner is None:
                self.store.add_owner(statement.resource, client.node)
            self.store.add_catalog(
                statement,
                digest=message.digest,
                message=message.text,
                now=self.signer.now(),
            )
        return True

    # --- batches ------------------------------------------------------------------

    def store_batch(self, admit: Admit, file: Path) -> str:
        """Register a whole, synced and validated batch file; the ``stored`` receipt.

        Raises:
            Refused: meanwhile another batch of the stream was stored, the key was
                revoked, or the resource was given to another node.
        """
        manifest, message = admit.manifest, admit.message
        if known := self.store.same(message.digest):
            file.unlink()
            return known.receipt
        with self.store.transaction():
            key = self.store.key(message.kid)
            if key is not None:
                check_status(key, self.signer.now())
            if self.store.owner(manifest.resource) not in (None, manifest.producer):
                raise Refused("not-owner", f"{manifest.resource} is another node's")
            dead = chain(manifest, self.store)
            if not dead:
                self._move(file, batch_path(self.batches, manifest.id))
                return self._register_stored(admit)
        file.unlink()
        return self.reject(Reject(manifest.id, message, "stale-epoch"))

    def _register_stored(self, admit: Admit) -> str:
        manifest, message = admit.manifest, admit.message
        stream = self.store.stream(manifest.resource)
        lossy = manifest.stream.reason in ("restored", "spool_lost")
        receipt = self.signer.receipt(
            manifest.id, message.digest, "stored", rows=manifest.rows
        )
        self._add(manifest.id, message, Known(message.digest, "stored", receipt))
        self.store.put_stream(
            manifest.resource,
            replace(
                stream,
                epoch=manifest.stream.epoch,
                seq=manifest.stream.seq,
                digest=message.digest,
                incarnation=manifest.stream.incarnation,
                proven=stream.proven and not lossy,
            ),
        )
        return receipt

    def reject(self, verdict: Reject) -> str:
        """Register a batch as rejected; its receipt.

        Raises:
            Refused: its identity is taken, or its epoch is over.
        """
        batch, message = verdict.batch, verdict.message
        if known := self.store.same(message.digest):
            return known.receipt
        with self.store.transaction():
            place(batch, self.store)
            receipt = self.signer.receipt(
                batch, message.digest, "rejected", code=verdict.code
            )
            self._add(batch, message, Known(message.digest, "rejected", receipt))
            stream = self.store.stream(batch.resource)
            dead = max(stream.dead, batch.epoch)
            self.store.put_stream(batch.resource, replace(stream, dead=dead))
        return receipt

    def _add(self, batch: BatchId, message: Verified, known: Known) -> None:
        due = Due(batch.resource, batch.epoch, batch.seq, message.text)
        self.store.add_batch(due, known, now=self.signer.now())

    def _move(self, file: Path, target: Path) -> None:
        """Give a synced file its place, durably."""
        new = not target.parent.exists()
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
        sync_folder(target.parent)
        if new:
            sync_folder(target.parent.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _chain(messages: list[str]) -> KeyChain:
    try:
        return keys.chain(messages)
    except BadSignature as e:
        raise Refused("bad-signature", e.detail) from e

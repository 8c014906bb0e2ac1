# SPDX-License-Identifier: Apache-2.0
"""Put a packed payload on the end of its stream's chain and sign it; pure.

Rules (wire.md §2)

1. A batch is ``(epoch, seq + 1)`` of the head it stands on, and chains to its ``prev``.
2. ``reason`` is set on an epoch's first batch only; the head carries it until then.
3. The parts of a full run are one snapshot, named by the run, numbered from 1; only
   the final part says how many distinct keys there are. Other runs have no snapshot.
4. The text that is signed is the text that is kept: nobody signs the same batch twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agent.crypto.jose import Signer, message_digest, split
from agent.model.job import Packed
from agent.model.stream import Head
from agent.wire import batch as wire
from agent.wire.grammar import format_time


@dataclass(frozen=True)
class Sender:
    """Who sends to whom, with what software.

    Args:
        producer: our node.
        aud: the exchange.
        agent: name and version of this program.
    """

    producer: str
    aud: str
    agent: str


@dataclass(frozen=True)
class RunFacts:
    """What all batches of a run have in common.

    Args:
        resource: its code.
        run: uuid7; also the snapshot's id.
        catalog: version and message digest of the catalog statement.
        confirmed: rows that a person agreed to delete, put on the final part and on
            those with deletes.
    """

    resource: str
    run: str
    catalog: wire.CatalogRef
    confirmed: wire.DeletesConfirmed | None


@dataclass(frozen=True)
class Sealed:
    """A signed manifest.

    Args:
        head: the head that it stands on.
        text: the compact JWS, without LF.
        digest: its message digest.
        manifest: what it says.
        packed: the payload that it describes.
    """

    head: Head
    text: str
    digest: str
    manifest: wire.Manifest
    packed: Packed

    @property
    def after(self) -> Head:
        """The head for the next batch."""
        return self.head.after(self.digest)

    @property
    def size(self) -> int:
        """Bytes of the file: line 1, LF and the payload."""
        return len(self.text) + 1 + self.packed.size


def compose(
    head: Head, packed: Packed, run: RunFacts, *, sender: Sender, now: datetime
) -> wire.Manifest:
    """The manifest of a payload on this head."""
    deletes = packed.final or packed.rows.delete
    return wire.Manifest(
        aud=sender.aud,
        producer=sender.producer,
        resource=run.resource,
        catalog=run.catalog,
        stream=wire.StreamRef(
            epoch=head.epoch,
            seq=head.seq + 1,
            prev=head.prev,
            incarnation=head.incarnation,
            reason=head.reason,
        ),
        content=wire.Content(
            size=packed.size, raw_size=packed.raw_size, digest=packed.digest
        ),
        rows=packed.rows,
        mode=packed.mode,
        snapshot=_snapshot(packed, run) if packed.mode == "full" else None,
        deletes_confirmed=run.confirmed if deletes else None,
        as_of=packed.as_of,
        run_end=packed.final,
        quality=packed.quality,
        sealed_at=format_time(now),
        agent=sender.agent,
    )


def _snapshot(packed: Packed, run: RunFacts) -> wire.Snapshot:
    return wire.Snapshot(
        id=run.run, part=packed.part, final=packed.final, rows=packed.distinct
    )


def sign(
    head: Head, packed: Packed, manifest: wire.Manifest, *, signer: Signer
) -> Sealed:
    """The signed line 1 of a batch.

    Raises:
        MalformedMessage: the manifest breaks a rule of the wire, which is our defect.
    """
    text = signer.sign(wire.TYP, manifest.payload())
    return Sealed(head, text, message_digest(text), manifest, packed)


def payload_of(text: str) -> bytes:
    """The payload of a message that we signed ourselves."""
    return split(text, cap=len(text)).payload

# SPDX-License-Identifier: Apache-2.0
"""The golden vectors of the audit log."""

from __future__ import annotations

from agent.crypto import note, tree
from tests.support import audit_vectors as made
from tests.support import vectors

PINNED = vectors.load("audit.json")


def test_everything_deterministic_is_byte_for_byte():
    """Hashes, proofs, notes, keys, pseudonyms and commitments."""
    assert {name: PINNED[name] for name in made.body()} == made.body()


def test_the_pinned_evidence_opens():
    """Nonce, ciphertext and tag, under the day's key."""
    pinned = PINNED["evidence"]
    box, aad = bytes.fromhex(pinned["box_hex"]), pinned["aad"].encode()
    assert made.DAY.unbox(box, aad).decode() == pinned["plaintext"]


def test_the_pinned_proof_proves_its_leaf():
    """From the text of the proof and two public keys alone."""
    proof = note.parse_tlog_proof(PINNED["tlog_proof"])
    log, witness = (vectors.note_key(n).public for n in ("audit", "witness"))
    head = note.open_checkpoint(proof.checkpoint, log, name=made.ORIGIN)
    cosigned = note.parse_note(proof.checkpoint)
    assert cosigned.verify_cosignature(witness, name=made.WITNESS) == made.AT
    leaf = tree.leaf_hash(PINNED["leaves"][proof.index].encode())
    tree.verify_inclusion(
        leaf, index=proof.index, size=head.size, path=proof.path, root=head.root
    )


def test_the_pinned_request_continues_the_log():
    """What a witness checks before it signs."""
    asked = note.parse_add_checkpoint(PINNED["add_checkpoint"].encode())
    head = note.parse_checkpoint(note.parse_note(asked.checkpoint).body)
    tree.verify_consistency(
        old=asked.old,
        new=head.size,
        path=asked.path,
        old_root=bytes.fromhex(PINNED["roots"][asked.old]),
        new_root=head.root,
    )

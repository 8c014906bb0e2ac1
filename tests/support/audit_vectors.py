# SPDX-License-Identifier: Apache-2.0
"""Writes ``tests/vectors/audit.json``: ``python -m tests.support.audit_vectors``.

All of it is deterministic but ``evidence``, whose nonce is random. Run it only when the
format changes.
"""

from __future__ import annotations

import json
from typing import Any

from agent.crypto import frames, note, tree
from agent.crypto.daykey import DayKey
from agent.crypto.note import Checkpoint
from tests.support import vectors

ORIGIN = "11990100000000019F/front-1/audit"
WITNESS = "yunxi.exchange/witness"
AT = 1_795_248_000
LEAVES = [
    '{"v":1,"n":0,"at":"2026-11-21T08:00:00Z","kind":"audit.started","version":"x"}',
    *(
        f'{{"v":1,"n":{n},"at":"2026-11-21T08:00:0{n}Z","kind":"lookup.refused",'
        f'"since":"2026-11-21T08:00:00Z","codes":{{"malformed":{n}}}}}'
        for n in range(1, 8)
    ),
]
DAY = DayKey(bytes(range(32)))
DECISION = "01939f5e-7c00-7000-8000-00000000000d"


def body() -> dict[str, Any]:
    """Everything but the evidence."""
    held, nodes, roots = tree.Range(), {}, [tree.EMPTY_ROOT.hex()]
    for line in LEAVES:
        for level, index, made in held.append(tree.leaf_hash(line.encode())):
            nodes[level, index] = made
        roots.append(held.root().hex())

    def hash_of(level: int, index: int) -> bytes:
        return nodes[level, index]

    size = len(LEAVES) - 1  # no power of two: the interesting shape
    root = tree.root_of(size, hash_of)
    log, witness = vectors.note_key("audit"), vectors.note_key("witness")
    signed = note.format_checkpoint(Checkpoint(ORIGIN, size, root), log, ORIGIN)
    line = note.cosign(note.parse_note(signed).body, witness, WITNESS, AT)
    consistency = tree.consistency_path(3, size, hash_of)
    inclusion = tree.inclusion_path(4, size, hash_of)
    return {
        "leaves": LEAVES,
        "leaf_hashes": [tree.leaf_hash(text.encode()).hex() for text in LEAVES],
        "roots": roots,
        "inclusion": {
            "index": 4,
            "size": size,
            "path": [part.hex() for part in inclusion],
        },
        "consistency": {
            "old": 3,
            "new": size,
            "path": [part.hex() for part in consistency],
        },
        "log_vkey": note.vkey(log.public, name=ORIGIN),
        "witness_vkey": note.vkey(witness.public, name=WITNESS),
        "checkpoint": signed,
        "cosignature": line,
        "tlog_proof": note.tlog_proof(4, inclusion, signed + line),
        "add_checkpoint": note.format_add_checkpoint(3, consistency, signed).decode(),
        "day_key": {
            "secret_hex": DAY.secret.hex(),
            "key": "110101199003070011",
            "subject": DAY.subject(frames.frame("C", "110101199003070011")),
            "decision_id": DECISION,
            "basis": "案:CS-2026-00017",
            "commitment": DAY.commit(DECISION, "basis", "案:CS-2026-00017"),
            "salt": DAY.reveal(DECISION, "basis"),
        },
    }


def main() -> None:
    """Write the file."""
    about = (
        "The audit log of wire format 1: leaf i is the UTF-8 of leaves[i], roots[n] the"
        " root of the first n. keys/audit.pem signed, keys/witness.pem cosigned."
    )
    plaintext, aad = "evidence", "7"
    evidence = {
        "plaintext": plaintext,
        "aad": aad,
        "box_hex": DAY.box(plaintext.encode(), aad.encode()).hex(),
    }
    whole = {"_about": about, **body(), "evidence": evidence}
    text = json.dumps(whole, ensure_ascii=False, indent=1) + "\n"
    (vectors.VECTORS / "audit.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()

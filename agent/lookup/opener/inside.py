# SPDX-License-Identifier: Apache-2.0
"""The opener's process: one request after the other, as they come.

Rules

1. It has the keys that open requests and public keys; nothing that signs or records, no
   network, no file.
2. What it is asked is foreign but for the frame: any fault of it is an answer.
3. Without the daemon it ends at once.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping

from agent.child.frames import PIECE, TOGETHER, Frames, frame_of
from agent.child.heap import settle_heap
from agent.child.inside import settle
from agent.crypto.jose import PrivateKey, Unverified, Verified
from agent.errors import PeerFault
from agent.lookup.opener.talk import (
    BEAT_S,
    CAP,
    Kind,
    answer_frame,
    ask_of,
    keys_of,
)
from agent.lookup.verify import uncover


def serve(sock: socket.socket, *, beat_s: float = BEAT_S) -> None:
    """Open what is asked until the daemon is gone.

    Args:
        sock: a blocking one: the daemon may take its time to read answers.
        beat_s: see :data:`agent.lookup.opener.talk.BEAT_S`.

    Raises:
        ValueError: a frame that the protocol does not have.
    """
    frames, keys = Frames(CAP), dict[str, PrivateKey]()
    while data := _received(sock, beat_s):
        answers: list[bytes] = []
        for frame in frames.of(data):
            if frame.kind == Kind.KEYS:
                keys = keys_of(frame.body)
                answers.append(frame_of(Kind.READY, 0, b""))
            elif frame.kind == Kind.ASK:
                kind, body = answer_frame(_opened(frame.body, keys))
                answers.append(frame_of(kind, frame.number, body))
            else:
                raise ValueError(f"frame of kind {frame.kind}")
            if len(answers) == TOGETHER:
                sock.sendall(b"".join(answers))
                answers.clear()
        sock.sendall(b"".join(answers))


def _received(sock: socket.socket, beat_s: float) -> bytes:
    """What the daemon sent; signs of life until it does."""
    while not select.select([sock], [], [], beat_s)[0]:
        sock.sendall(frame_of(Kind.BEAT, 0, b""))
    return sock.recv(PIECE)


def _opened(
    body: bytes, keys: Mapping[str, PrivateKey]
) -> Unverified | Verified | PeerFault:
    sealed, candidates = ask_of(body)
    try:
        return uncover(sealed, keys=keys, candidates=candidates)
    except PeerFault as e:
        return e


def main(argv: list[str]) -> int:
    """Serve through descriptor ``argv[1]`` until the daemon is gone."""
    settle()
    settle_heap()
    with socket.socket(fileno=int(argv[1])) as sock:
        try:
            serve(sock)
        except ConnectionError:
            return 3
    return 0

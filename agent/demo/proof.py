# SPDX-License-Identifier: Apache-2.0
"""What the centre holds, as it signs it; what the source holds, read once more."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.control.directory import check_directory
from agent.control.identity import IdentityFiles, load_sign_key
from agent.crypto.jose import message_digest, split, verify
from agent.demo.line import ask
from agent.demo.report import Tally
from agent.demo.site import Exchange
from agent.errors import ExchangeRefused, FalseReceipt, SourceFailed
from agent.model.job import Ended, Failed, Job
from agent.pipeline.worker.spawn import WorkerProcess
from agent.wire import batch, reconcile
from agent.wire.grammar import new_uuid7

AT_ONCE = 2
"""Workers that read at the same time."""


def new_id() -> str:
    """A uuid7 of now."""
    return new_uuid7(time.time_ns() // 1_000_000, os.urandom(10))


def centre(last: Path, *, exchange: Exchange, files: IdentityFiles) -> Tally:
    """Rows and digest of a resource at the centre, from its signed reply.

    Args:
        last: file of the stream's last loaded batch, still in the spool.
        exchange: whom to ask.
        files: who asks.

    Raises:
        ExchangeRefused: the exchange answered with a problem.
        FalseReceipt: the reply speaks of something else.
        BadSignature, MalformedMessage: the reply does not verify.
    """
    line = split(batch.read_line1(last), cap=batch.LINE_CAP)
    manifest = batch.parse(line.payload)
    request = reconcile.Request(
        iss=manifest.producer,
        aud=exchange.aud,
        jti=new_id(),
        iat=int(time.time()),
        resource=manifest.resource,
        epoch=manifest.stream.epoch,
        seq=manifest.stream.seq,
        catalog=manifest.catalog.digest,
        bits=0,
        detail=None,
    )
    key = load_sign_key(files)
    text = key.sign(reconcile.TYP_REQUEST, request.payload())
    answer = ask(
        f"{exchange.url}/v1/reconcile",
        "POST",
        files=files,
        headers={"Content-Type": "application/jose"},
        body=text.encode(),
    )
    if answer.status != 200:
        said = answer.problem()
        code = str(said.get("type", "")).rpartition(":")[2]
        raise ExchangeRefused(str(said.get("detail", "")), problem=code)
    message = split(answer.body, cap=reconcile.RESPONSE_CAP)
    known = check_directory(
        files.directory.read_bytes(), aud=exchange.aud, kid=exchange.kid
    )
    signer = known.exchange_key(exchange.aud, message.kid, "receipt")
    verified = verify(message, signer, typ=reconcile.TYP_RESPONSE)
    reply = reconcile.parse_response(verified.payload)
    if (reply.irt, reply.req_sha256) != (request.jti, message_digest(text)):
        raise FalseReceipt("the reply to a reconcile request answers another one")
    return Tally(reply.rows, reply.buckets[0][1])


async def source(jobs: Sequence[Job]) -> Mapping[str, Tally]:
    """Resource -> rows and digest of what should be at the centre now.

    Args:
        jobs: of kind ``digest``.

    Raises:
        SourceFailed: a worker could not read.
        WorkerDied: a worker is gone.
    """
    free = asyncio.Semaphore(AT_ONCE)

    async def count(job: Job) -> tuple[str, Tally]:
        async with free:
            return job.resource, await _digest(job)

    return dict(await asyncio.gather(*(count(job) for job in jobs)))


async def _digest(job: Job) -> Tally:
    async with WorkerProcess() as worker:
        await worker.start(job)
        async for message in worker.messages():
            if isinstance(message, Ended) and message.digest is not None:
                return Tally(message.rows.upsert, message.digest)
            if isinstance(message, Failed):
                raise SourceFailed(f"{job.resource}: {message.code}: {message.detail}")
    raise SourceFailed(f"{job.resource}: the worker gave no digest")

# SPDX-License-Identifier: Apache-2.0
"""Assembly: one folder, one writer's thread, two listeners, one loader."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from agent.crypto.jose import PrivateKey
from agent.crypto.keys import load_note_key, load_private, save_private
from agent.crypto.notekey import NoteKey
from agent.errors import UsageFault
from agent.wire.directory import Directory
from sandbox import lies
from sandbox.accept import Rules
from sandbox.admin import Admin, Switch
from sandbox.beats import BeatsFront
from sandbox.central import Central
from sandbox.codes import Codes
from sandbox.commands import Commands, CommandsFront
from sandbox.desk import Desk
from sandbox.doors import Doors
from sandbox.enrolling import Enrolling
from sandbox.enrolment import Enrolment
from sandbox.faults import Fault, Faults
from sandbox.http import Front
from sandbox.load import Loader
from sandbox.mischief import Mischief
from sandbox.nodes import Nodes
from sandbox.office import Office
from sandbox.options import Options
from sandbox.providers import Providers
from sandbox.receive import Receiver
from sandbox.relay import Relay, ask
from sandbox.replies import Signer
from sandbox.repository import Repository, RepositoryFront, readable, watch
from sandbox.store import Registry, Store, open_reader
from sandbox.tls import Pki
from sandbox.uploads import Uploads
from sandbox.witness import Witness, WitnessFront

_LOG = logging.getLogger("sandbox")
_DAY_S = 86_400
_EXPIRE_EVERY_S = 600
_SOCKET_PATH = 107
"""Longest path of a Unix socket, bytes."""


async def serve(options: Options, *, ready: Callable[[str], None]) -> None:
    """Run an exchange until SIGTERM or SIGINT.

    Args:
        options: which one, and where.
        ready: gets the JSON line of ``sandbox.json`` when it listens.

    Raises:
        UsageFault: another process serves this folder.
    """
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with exchange(options) as line:
        ready(line)
        await stop.wait()


@dataclass(frozen=True)
class Parts:
    """What both listeners and the loader share."""

    options: Options
    faults: Faults
    pki: Pki
    desk: Desk
    registry: Registry
    switch: Switch
    write: Callable[[Callable[[], Any]], Awaitable[Any]]
    witness: Witness
    providers: Providers
    enrolment: Enrolment
    nodes: Nodes
    commands: Commands
    central: Central | None

    @property
    def pins(self) -> dict[str, str]:
        """What agents pin besides; nothing without a repository of its own."""
        if self.central is None:
            return {}
        return {"tuf_root_sha256": self.central.repository.root_sha256}

    @property
    def database(self) -> Path:
        """The exchange's SQLite file."""
        return self.options.folder / "centre.db"


@asynccontextmanager
async def exchange(options: Options) -> AsyncIterator[str]:
    """A running exchange; gives the JSON line of ``sandbox.json``."""
    folder = options.folder
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        stack.enter_context(_alone(folder / "lock"))
        parts = await _parts(options, stack)
        front = await _listen(parts, stack)
        admin = await _listen_admin(parts, front, stack)
        loader = Loader(
            parts.desk.store, parts.desk.signer, options, batches=parts.desk.batches
        )
        _beside(stack, _load(loader, parts))
        line = json.dumps(
            {
                "url": front.url,
                "aud": options.aud,
                "ca_sha256": parts.pki.authority.sha256,
                "kid": parts.desk.signer.key.public.kid,
                "admin": str(admin),
                "pid": os.getpid(),
            }
            | parts.pins
        )
        _publish(folder / "sandbox.json", line)
        yield line


async def _parts(options: Options, stack: AsyncExitStack) -> Parts:
    folder = options.folder
    faults = Faults()

    def now() -> datetime:
        return datetime.now(UTC) + timedelta(seconds=faults.clock_offset_s)

    hosts = (options.host, *options.hosts)
    pki = Pki(folder / "keys", hosts, aud=options.aud, now=datetime.now(UTC))
    signer = Signer(_receipt_key(folder / "keys"), options.aud, now)
    thread = ThreadPoolExecutor(1, thread_name_prefix="writer")
    stack.callback(thread.shutdown)

    async def write(change: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(thread, change)

    store = await write(lambda: Store(folder / "centre.db"))
    stack.push_async_callback(write, store.close)
    registry = open_reader(folder / "centre.db")
    stack.callback(registry.connection.close)
    batches = folder / "batches"
    batches.mkdir(mode=0o700, exist_ok=True)
    desk = Desk(store, signer, options, batches)
    switch = Switch(options.load, asyncio.Event())
    switch.wake.set()
    witness = Witness(
        store, _witness_key(folder / "keys"), f"{options.aud}/witness", now
    )
    doors = Doors(timeout_s=options.relay_timeout_s)
    providers = Providers(doors, registry, store, write, pki, stack)
    await providers.restore()
    codes = await write(lambda: Codes(store))
    return Parts(
        options,
        faults,
        pki,
        desk,
        registry,
        switch,
        write,
        witness,
        providers,
        Enrolment(desk, codes, pki.authority),
        Nodes(store, options.aud, now),
        Commands(
            store, _command_key(folder / "keys"), options.aud, now, folder / "bundles"
        ),
        Central.at(folder / "central", now) if options.central else None,
    )


async def _listen(parts: Parts, stack: AsyncExitStack) -> Front:
    """Serve clients; its ``url`` is where they find the exchange."""
    options, faults = parts.options, parts.faults
    port = options.port or _last_port(options.folder / "sandbox.json")
    listener = _socket(options.host, port)
    stack.callback(listener.close)
    url = f"https://{_bracketed(options.host)}:{listener.getsockname()[1]}"
    tuf = _repository(parts)
    front = _front(parts, url, tuf)
    uploads, receiver = _receiving(parts, front)
    witness = WitnessFront(parts.witness, parts.write, front.member)
    app = web.Application(middlewares=front.middlewares())
    enrolling = Enrolling(parts.enrolment, parts.write, faults)
    commands = _commands(parts, front)
    beats = BeatsFront(
        parts.nodes,
        parts.write,
        front.member,
        parts.providers.changes,
        commands.waits,
    )
    relay = _relay(parts, front)
    for found in (front, enrolling, receiver, relay, witness, beats, commands):
        app.add_routes(found.routes())
    if tuf is not None:
        app.add_routes(RepositoryFront(tuf, front.member).routes())
        _beside(stack, watch(tuf, parts.providers.nudge))
    if parts.central is not None:
        publish = partial(_publish_registry, parts.central, front)
        parts.providers.before_nudge(publish)
        await publish()
        _beside(stack, _renew(publish))
    app.on_shutdown.append(lambda _: parts.providers.doors.shut())
    context = parts.pki.context(lambda: _lie(faults.strike("tls")))
    runner = await _runner(app, stack)
    await web.SockSite(runner, listener, ssl_context=context).start()
    _beside(stack, _expire(uploads))
    return front


def _repository(parts: Parts) -> Repository | None:
    """The city's repository that is served: its own one, a given one, or none."""
    if parts.central is not None:
        return Repository(parts.central.folder)
    return Repository(Path(parts.options.tuf)) if parts.options.tuf else None


def _front(parts: Parts, url: str, tuf: Repository | None) -> Front:
    """What answers about keys, catalogs and the directory."""
    return Front(
        registry=parts.registry,
        desk=parts.desk,
        writer=parts.write,
        authority=parts.pki.authority,
        faults=parts.faults,
        database=parts.database,
        url=url,
        others=(parts.witness.key.public, parts.commands.key.public),
        nudge=parts.providers.nudge,
        fetched=parts.providers.changes.fetched,
        over=_over(parts.central, tuf),
    )


def _receiving(parts: Parts, front: Front) -> tuple[Uploads, Receiver]:
    """What takes batches."""
    options, desk = parts.options, parts.desk
    uploads = Uploads(
        options.folder / "uploads",
        lambda offer: Rules(options.aud).judge(
            offer, parts.registry, now=desk.signer.now()
        ),
        life_s=options.upload_days * _DAY_S,
    )
    receiver = Receiver(
        uploads=uploads,
        registry=parts.registry,
        desk=desk,
        write=parts.write,
        stored=parts.switch.wake.set,
        client=front.client,
        show=lambda text: lies.show_receipt(text, parts.faults, desk.signer),
        faults=parts.faults,
    )
    return uploads, receiver


def _over(
    central: Central | None, tuf: Repository | None
) -> Callable[[Directory], Directory]:
    """What of the registry's directory is signed."""
    if tuf is None:
        return lambda found: found
    if central is None:
        return partial(readable, tuf)

    def published(found: Directory) -> Directory:
        central.say(found)
        return readable(tuf, found)

    return published


async def _publish_registry(central: Central, front: Front) -> None:
    """What the registry says goes into the repository."""
    found = front.registered()
    await asyncio.to_thread(central.renew, found)


async def _renew(publish: Callable[[], Awaitable[None]]) -> None:
    """Keep the repository fresh though nothing happens."""
    while True:
        await asyncio.sleep(_EXPIRE_EVERY_S)
        await publish()


def _beside(stack: AsyncExitStack, work: Coroutine[Any, Any, None]) -> None:
    """Run it in the background as long as the exchange lives."""
    task = asyncio.create_task(work)
    task.add_done_callback(_crash)
    stack.push_async_callback(_cancel, task)


def _commands(parts: Parts, front: Front) -> CommandsFront:
    now = parts.desk.signer.now
    return CommandsFront(parts.commands, parts.registry, parts.write, front.member, now)


def _relay(parts: Parts, front: Front) -> Relay:
    doors, options = parts.providers.doors, parts.options
    return Relay(
        registry=parts.registry,
        member=front.member,
        doors=doors,
        mischief=Mischief(parts.faults, partial(ask, doors), doors.cut),
        timeout_s=options.relay_timeout_s,
        ping_s=options.ping_s,
    )


async def _listen_admin(parts: Parts, front: Front, stack: AsyncExitStack) -> Path:
    """Serve the admin's socket; its path."""
    path = parts.options.folder.absolute() / "admin.sock"
    if len(os.fsencode(path)) > _SOCKET_PATH:
        raise UsageFault(f"{path}: expected at most {_SOCKET_PATH} bytes for a socket")
    path.unlink(missing_ok=True)
    admin = Admin(
        registry=parts.registry,
        desk=parts.desk,
        write=parts.write,
        faults=parts.faults,
        load=parts.switch,
        database=parts.database,
        providers=parts.providers,
        nodes=parts.nodes,
        central=parts.central,
    )
    app = admin.app()
    app.add_routes(Office(parts.enrolment, front, parts.pins).routes())
    app.add_routes(_commands(parts, front).admin_routes())
    runner = await _runner(app, stack)
    await web.UnixSite(runner, str(path)).start()
    path.chmod(0o600)
    return path


async def _runner(app: web.Application, stack: AsyncExitStack) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    return runner


def _socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as e:
        listener.close()
        raise UsageFault(f"cannot listen on {host}:{port}: {e.strerror}") from e
    return listener


def _lie(fault: Fault | None) -> str | None:
    return None if fault is None else fault.lie


def _crash(task: asyncio.Task[None]) -> None:
    """A background task that fails ends the process: nobody would notice else."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOG.error("background task failed", exc_info=error)
        signal.raise_signal(signal.SIGTERM)


async def _load(loader: Loader, parts: Parts) -> None:
    """Load what is stored, one batch at a time, so that storing gets its turn."""
    switch = parts.switch
    while True:
        await switch.wake.wait()
        switch.wake.clear()
        while switch.on and await parts.write(loader.load_next) is not None:
            pass


async def _expire(uploads: Uploads) -> None:
    while True:
        uploads.expire(now=time.time())
        await asyncio.sleep(_EXPIRE_EVERY_S)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            raise UsageFault(f"another process serves {path.parent}") from e
        yield


def _receipt_key(folder: Path) -> PrivateKey:
    path = folder / "receipt.key"
    if not path.exists():
        save_private(path, PrivateKey.generate("receipt"))
    return load_private(path, purpose="receipt")


def _command_key(folder: Path) -> PrivateKey:
    path = folder / "command.key"
    if not path.exists():
        save_private(path, PrivateKey.generate("command"))
    return load_private(path, purpose="command")


def _witness_key(folder: Path) -> NoteKey:
    path = folder / "witness.key"
    if not path.exists():
        save_private(path, NoteKey.generate("witness"))
    return load_note_key(path, purpose="witness")


def _last_port(path: Path) -> int:
    """The port of the run before, so that clients find the exchange again."""
    try:
        url = json.loads(path.read_text(encoding="utf-8"))["url"]
        return urlsplit(url).port or 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _publish(path: Path, line: str) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(line + "\n", encoding="utf-8")
    draft.rename(path)

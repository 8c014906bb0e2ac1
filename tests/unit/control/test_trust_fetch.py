# SPDX-License-Identifier: Apache-2.0
"""Files of the repository over the line: pinned, bounded in bytes and time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agent.control.trust_fetch import Absent, Address, Folder, Visit, visit
from agent.errors import (
    ExchangeRefused,
    ExchangeUnreachable,
    ExchangeUntrusted,
    MalformedMessage,
    ProxyRefused,
)
from agent.model.proxy import Proxy
from tests.support.proxy_double import ProxyDouble
from tests.support.tls import Authority

Answer = Callable[[BaseHTTPRequestHandler], None]


class Exchange(ThreadingHTTPServer):
    """HTTPS on loopback that wants a certificate under its own CA."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.connections = 0
        self.asked: list[str] = []
        self.answer: Answer = plain(b"good")
        self.ca = Authority(folder)
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server = self.ca.server()
        context.load_cert_chain(server.cert, server.key)
        context.load_verify_locations(self.ca.cert)
        context.verify_mode = ssl.CERT_REQUIRED
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is part of the tests."""

    def get_request(self) -> tuple[Any, Any]:
        self.connections += 1
        return super().get_request()

    def address(self, **changes: Any) -> Address:
        client = self.ca.client()
        found: dict[str, Any] = {
            "url": f"https://127.0.0.1:{self.server_port}/tuf",
            "ca": self.ca.cert,
            "certificate": client.cert,
            "key": client.key,
        }
        return Address(**{**found, **changes})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Exchange

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.answer(self)

    def log_message(self, *_: Any) -> None:
        """Silent."""


def plain(body: bytes, *, status: int = 200, **headers: str) -> Answer:
    def answer(to: BaseHTTPRequestHandler) -> None:
        to.send_response(status)
        for name, value in headers.items():
            to.send_header(name.replace("_", "-"), value)
        to.send_header("Content-Length", str(len(body)))
        to.end_headers()
        to.wfile.write(body)

    return answer


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[Exchange]:
    with Exchange(tmp_path) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def read(source: Visit, path: str = "metadata/1.root.json") -> bytes:
    return b"".join(source.get(path))


def test_one_connection_serves_a_visit(exchange: Exchange) -> None:
    """Also where a file is not there, as the next root never is."""
    with visit(exchange.address()) as source:
        assert read(source, "metadata/1.root.json") == b"good"
        exchange.answer = plain(b"none", status=404)
        with pytest.raises(Absent) as e:
            read(source, "metadata/2.root.json")
        exchange.answer = plain(b"")
        assert read(source, "targets/nodes/a b/1.json") == b""
    assert e.value.status == 404
    assert exchange.connections == 1
    assert exchange.asked[0] == "/tuf/metadata/1.root.json"
    assert exchange.asked[2] == "/tuf/targets/nodes/a%20b/1.json"


def test_another_ca_and_no_certificate_end_it(
    exchange: Exchange, tmp_path: Path
) -> None:
    """The pinned CA alone is trusted, and nobody is asked without our certificate."""
    (tmp_path / "else").mkdir()
    stranger = Authority(tmp_path / "else")
    with visit(exchange.address(ca=stranger.cert)) as source:  # noqa: SIM117
        with pytest.raises(ExchangeUntrusted, match="certificate: "):
            read(source)
    with visit(exchange.address(certificate=None)) as source:  # noqa: SIM117
        with pytest.raises((ExchangeUntrusted, ExchangeUnreachable)):
            read(source)
    assert exchange.asked == []


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (plain(b"", status=302, Location="https://x/"), MalformedMessage, "redirect"),
        (plain(b"<p>", Content_Type="text/html; x=1"), MalformedMessage, "page"),
        (plain(b"", status=503), ExchangeUnreachable, "503"),
        (plain(b"", status=500), ExchangeRefused, "http-500"),
    ],
    ids=["redirect", "login page", "busy", "broken"],
)
def test_what_is_no_file_is_none(
    exchange: Exchange, answer: Answer, error: type[Exception], said: str
) -> None:
    """A redirect is never followed, a page for people never taken for a file."""
    exchange.answer = answer
    with visit(exchange.address()) as source, pytest.raises(error, match=said):
        read(source)
    assert len(exchange.asked) == 1


def test_a_line_that_is_cut_in_the_middle_is_a_cut(exchange: Exchange) -> None:
    """Half a file is no wrong file: nobody is accused."""

    def half(to: BaseHTTPRequestHandler) -> None:
        to.send_response(200)
        to.send_header("Content-Length", "1000")
        to.end_headers()
        to.wfile.write(b"x" * 10)
        to.close_connection = True

    exchange.answer = half
    with visit(exchange.address()) as source:
        with pytest.raises(ExchangeUnreachable, match=r"bytes are missing|EOF"):
            read(source)
        exchange.answer = plain(b"good")
        assert read(source) == b"good"


def test_a_connection_that_ended_between_two_files_is_made_anew(
    exchange: Exchange,
) -> None:
    """A server that closes idle connections costs nothing but another one."""

    def closing(to: BaseHTTPRequestHandler) -> None:
        plain(b"good")(to)
        to.close_connection = True

    exchange.answer = closing
    with visit(exchange.address()) as source:
        assert [read(source) for _ in range(3)] == [b"good"] * 3
    assert exchange.connections == 3


def dripping(first: bytes) -> Answer:
    """A byte now and then, for ever; each one is well within the read timeout."""

    def answer(to: BaseHTTPRequestHandler) -> None:
        gone = threading.Event()
        with contextlib.suppress(OSError):
            to.wfile.write(first)
            while not gone.wait(0.02):
                to.wfile.write(b"a")

    return answer


@pytest.mark.parametrize(
    "first",
    [b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"],
    ids=["head", "body"],
)
def test_slow_data_ends_with_the_visit(exchange: Exchange, first: bytes) -> None:
    """A drop now and then keeps nobody: head and body count alike."""
    exchange.answer = dripping(first)
    with visit(exchange.address(), seconds=0.3) as source:
        with pytest.raises(ExchangeUnreachable):
            read(source)
        with pytest.raises(ExchangeUnreachable, match="too long"):
            read(source)  # nor does the next file begin another time


def test_a_visit_can_be_ended_from_outside(exchange: Exchange) -> None:
    """The daemon does not wait for a slow exchange when it stops."""
    exchange.answer = dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
    with visit(exchange.address()) as source:
        chunks = source.get("metadata/timestamp.json")
        assert next(chunks).startswith(b"a")
        source.cut()
        with pytest.raises(ExchangeUnreachable):
            list(chunks)


def test_endless_data_ends_with_the_bytes_of_a_visit(exchange: Exchange) -> None:
    """All files together have a bound, whatever each of them may have."""
    exchange.answer = plain(b"x" * 1000)
    with visit(exchange.address(), most=2500) as source:
        assert len(read(source)) == len(read(source)) == 1000
        with pytest.raises(MalformedMessage, match="too many bytes"):
            read(source)


async def test_the_departments_proxy_is_used_with_its_login(
    exchange: Exchange,
) -> None:
    """CONNECT with the login of the department; TLS goes through it, end to end."""

    proxy = ProxyDouble(user="fep", password="s3cret")
    async with proxy.serving() as url:
        good = exchange.address(proxy=Proxy(url, "fep", "s3cret"))
        bad = exchange.address(proxy=Proxy(url, "fep", "wrong"))
        with visit(good) as source:
            assert await asyncio.to_thread(read, source) == b"good"
        with visit(bad) as source, pytest.raises(ProxyRefused, match="407") as e:
            await asyncio.to_thread(read, source)
    assert proxy.asked == [f"127.0.0.1:{exchange.server_port}"]
    assert "wrong" not in str(e.value)
    assert e.value.__cause__ is None
    del e
    gc.collect()  # a socket that is still open would be told


def test_a_dead_address_is_unreachable(exchange: Exchange) -> None:
    """Nothing listens."""
    address = exchange.address(url="https://127.0.0.1:1")
    with visit(address) as source, pytest.raises(ExchangeUnreachable, match="refused"):
        read(source)


def test_a_ferrys_folder_gives_files_and_nothing_above_it(tmp_path: Path) -> None:
    """A repository on a disc; names in it lead nowhere else, and a pipe is no file."""
    (tmp_path / "tuf" / "metadata").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "tuf" / "metadata" / "1.root.json").write_bytes(b"root")

    os.mkfifo(tmp_path / "tuf" / "pipe")
    folder = Folder(tmp_path / "tuf")
    assert b"".join(folder.get("metadata/1.root.json")) == b"root"
    for path in (
        "metadata/2.root.json",
        "../secret",
        "metadata",
        "pipe",
        "metadata/1.root.json/x",
    ):
        with pytest.raises(Absent):
            list(folder.get(path))

# SPDX-License-Identifier: Apache-2.0
"""The client of the exchange: what it sends, where it goes on, what it refuses."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from agent.errors import (
    ConfigInvalid,
    ExchangeRefused,
    ExchangeUnreachable,
    ExchangeUntrusted,
    MalformedMessage,
    SpoolDamaged,
)
from agent.model.batch import BatchId
from agent.pipeline.uplink.endpoint import Endpoint, tls_context
from agent.pipeline.uplink.exchange import Exchange
from agent.pipeline.uplink.line import PIECE_CAP, Sample
from agent.pipeline.uplink.tus import ONE_POST
from agent.state import State
from tests.support.tls import DAY, Authority
from tests.support.tus_double import TusDouble, reply

BATCH = BatchId("11330100MB0000000A/fep-01", "yunxi.exchange", "330100001/000001", 1, 1)
BIG = ONE_POST * 3 + 17


def now() -> datetime:
    return datetime.now(UTC)


@asynccontextmanager
async def connected(
    server: TusDouble,
    *,
    pauses: list[float] | None = None,
) -> AsyncIterator[Exchange]:
    """A client of the server; with ``pauses`` it notes how long it would wait."""

    async def pause(seconds: float) -> None:
        if pauses is None:
            await asyncio.sleep(seconds)
        else:
            pauses.append(seconds)

    async with server.serving() as url:
        endpoint = Endpoint(url, None, unsafe_plain_http=True, read_timeout_s=5)
        async with Exchange(endpoint, now=now, sleep=pause) as exchange:
            yield exchange


def file(folder: Path, size: int) -> tuple[Path, int]:
    path = folder / "batch.fepb"
    path.write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    return path, size


def sent(server: TusDouble) -> list[tuple[str, int]]:
    return [(method, length) for method, _, length in server.requests]


# --- tus ------------------------------------------------------------------------------


async def test_a_small_file_travels_in_one_post(tmp_path: Path) -> None:
    """Up to 256 KiB."""
    server, (path, size) = TusDouble(), file(tmp_path, ONE_POST)
    async with connected(server) as exchange:
        assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
    assert sent(server) == [("POST", ONE_POST)]
    assert bytes(server.uploads["/v1/batches/1"]) == path.read_bytes()


async def test_a_larger_file_travels_in_pieces(tmp_path: Path) -> None:
    """An empty POST, a first piece that holds line 1, then pieces by the line."""
    server, (path, size) = TusDouble(), file(tmp_path, BIG)
    async with connected(server) as exchange:
        assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
    rest = BIG - ONE_POST
    assert sent(server) == [("POST", 0), ("PATCH", ONE_POST), ("PATCH", rest)]
    assert bytes(server.uploads["/v1/batches/1"]) == path.read_bytes()


async def test_a_line_found_fast_just_now_takes_a_file_in_one_piece(
    tmp_path: Path,
) -> None:
    """A request less for each batch of a push; every byte arrives all the same."""
    server, (path, size) = TusDouble(), file(tmp_path, BIG)
    async with connected(server) as exchange:
        later = exchange.line.clock() + 3600  # a slow machine is no slow line
        exchange.line.learn(Sample(PIECE_CAP, later - 0.1, later, later))
        assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
    assert sent(server) == [("POST", 0), ("PATCH", BIG)]
    assert bytes(server.uploads["/v1/batches/1"]) == path.read_bytes()


@pytest.mark.parametrize("cut", [1, 1000, ONE_POST])
async def test_a_cut_upload_goes_on_where_it_was_cut(tmp_path: Path, cut: int) -> None:
    """At once: GET the receipt, HEAD the Location, then only what is missing."""
    server, (path, size) = TusDouble(cuts=[1 << 30, cut]), file(tmp_path, BIG)
    async with connected(server) as exchange:
        assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
    methods = [method for method, _ in sent(server)]
    assert methods[:5] == ["POST", "PATCH", "PATCH", "GET", "HEAD"]
    assert set(methods[5:]) == {"PATCH"}
    carried = sum(len(data) for data in server.uploads.values())
    assert carried == size
    assert bytes(server.uploads["/v1/batches/1"]) == path.read_bytes()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    """What survives the process."""
    found = State(tmp_path / "state.db", new_incarnation=lambda: "a" * 32)
    yield found
    found.close()


async def test_the_next_life_goes_on_where_the_last_one_was_cut(
    tmp_path: Path, state: State
) -> None:
    """GET the receipt, HEAD the Location that was kept, only what is missing."""
    server, (path, size) = (
        TusDouble(cuts=[1 << 30, 1000] + [0] * 4),
        file(tmp_path, BIG),
    )
    async with server.serving() as url:
        async with life(url, state) as exchange:
            with pytest.raises(ExchangeUnreachable):
                await exchange.upload(path, size, batch=BATCH)
        before = len(server.requests)
        async with life(url, state) as exchange:
            assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
    methods = [method for method, _ in sent(server)[before:]]
    assert (methods[:2], set(methods[2:])) == (["GET", "HEAD"], {"PATCH"})
    assert sum(len(data) for data in server.uploads.values()) == size
    assert bytes(server.uploads["/v1/batches/1"]) == path.read_bytes()


async def test_a_place_of_another_batch_or_address_is_not_gone_on_from(
    tmp_path: Path, state: State
) -> None:
    """The upload begins anew, and its own place is kept instead."""
    server, (path, size) = TusDouble(), file(tmp_path, BIG)
    state.uploads.keep(BATCH, "https://other.example/v1/batches/7")
    state.uploads.keep(replace(BATCH, aud="other"), "https://other.example/8")
    async with server.serving() as url:
        async with life(url, state) as exchange:
            assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
        assert state.uploads.find(BATCH) == f"{url}/v1/batches/1"
    second = replace(BATCH, seq=2)
    assert state.uploads.find(second) is None
    state.uploads.keep(second, "https://other.example/v1/batches/9")
    assert state.uploads.find(BATCH) is None
    assert state.uploads.find(replace(BATCH, aud="other")) == "https://other.example/8"


@asynccontextmanager
async def life(url: str, state: State) -> AsyncIterator[Exchange]:
    """One life of a client that waits for nothing."""

    async def no_pause(_: float) -> None:
        await asyncio.sleep(0)

    endpoint = Endpoint(url, None, unsafe_plain_http=True, read_timeout_s=60)
    async with Exchange(
        endpoint, now=now, sleep=no_pause, places=state.uploads
    ) as exchange:
        yield exchange


async def test_a_line_that_brings_nothing_forward_ends_the_try(tmp_path: Path) -> None:
    """The stream waits then, and begins where it was cut."""
    server, (path, size) = TusDouble(cuts=[1 << 30] + [0] * 4), file(tmp_path, BIG)
    async with connected(server, pauses=[]) as exchange:
        with pytest.raises(ExchangeUnreachable):
            await exchange.upload(path, size, batch=BATCH)
        before = len(server.requests)
        assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
    methods = [method for method, _ in sent(server)[before:]]
    assert methods == ["GET", "HEAD", "PATCH"]


async def test_a_cut_post_is_followed_by_an_empty_one(tmp_path: Path) -> None:
    """No Location is known: begin anew, in pieces."""
    server, (path, size) = TusDouble(cuts=[1000]), file(tmp_path, 5000)
    async with connected(server) as exchange:
        with pytest.raises(ExchangeUnreachable):
            await exchange.upload(path, size, batch=BATCH)
        assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
    assert sent(server) == [("POST", 5000), ("GET", 0), ("POST", 0), ("PATCH", 5000)]


async def test_after_a_cut_a_receipt_that_is_there_is_enough(tmp_path: Path) -> None:
    """Everything had arrived, only the answer was lost."""
    server, (path, size) = TusDouble(cuts=[1000]), file(tmp_path, 5000)
    async with connected(server) as exchange:
        with pytest.raises(ExchangeUnreachable):
            await exchange.upload(path, size, batch=BATCH)
        server.receipts["1"] = "the.newest.receipt"
        assert await exchange.upload(path, size, batch=BATCH) == "the.newest.receipt"
    assert sent(server) == [("POST", 5000), ("GET", 0)]


async def test_an_upload_that_the_server_forgot_begins_anew(tmp_path: Path) -> None:
    """HEAD answers 404 after seven days."""
    server, (path, size) = TusDouble(cuts=[1 << 30, 5]), file(tmp_path, BIG)
    server.answer("HEAD", "/v1/batches/1", reply(404))
    async with connected(server) as exchange:
        assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
    assert bytes(server.uploads["/v1/batches/2"]) == path.read_bytes()


async def test_every_piece_that_arrived_is_told(tmp_path: Path) -> None:
    """So that a watchdog knows that a long upload is none that hangs."""
    server, (path, size) = TusDouble(), file(tmp_path, BIG)
    told: list[int] = []
    async with connected(server) as exchange:
        await exchange.upload(path, size, batch=BATCH, moved=lambda: told.append(1))
    assert len(told) == sum(1 for method, _ in sent(server) if method == "PATCH")


async def test_a_plain_tus_server_gives_no_receipt(tmp_path: Path) -> None:
    """The upload is complete; the answer is None."""
    server, (path, size) = TusDouble(receipt=None), file(tmp_path, BIG)
    async with connected(server) as exchange:
        assert await exchange.upload(path, size, batch=BATCH) is None


async def test_a_server_without_creation_with_upload_is_asked(tmp_path: Path) -> None:
    """201 without an offset: HEAD says where it stands."""
    server, (path, size) = TusDouble(), file(tmp_path, 5000)
    server.uploads["/v1/batches/9"], server.lengths["/v1/batches/9"] = bytearray(), 5000
    server.answer("POST", "/v1/batches", reply(201, Location="/v1/batches/9"))
    async with connected(server) as exchange:
        assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
    assert sent(server) == [("POST", 5000), ("HEAD", 0), ("PATCH", 5000)]


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.example/v1/batches/1",
        "//evil.example/1",
        "",
        "http://127.0.0.1:1/",
    ],
)
async def test_a_location_of_another_origin_is_refused(
    tmp_path: Path, location: str
) -> None:
    """Nothing of the file goes there."""
    server, (path, size) = TusDouble(), file(tmp_path, BIG)
    server.answer("POST", "/v1/batches", reply(201, Location=location))
    async with connected(server) as exchange:
        with pytest.raises(MalformedMessage, match="same origin"):
            await exchange.upload(path, size, batch=BATCH)


@pytest.mark.parametrize("offset", ["-1", "x", "9" * 20, "262145", "0"])
async def test_an_offset_that_cannot_be_is_refused(tmp_path: Path, offset: str) -> None:
    """The server says that it has another part than was sent."""
    server, (path, size) = TusDouble(), file(tmp_path, BIG)
    wrong = reply(204, Upload_Offset=offset)
    server.answer("PATCH", "/v1/batches/1", wrong)
    async with connected(server) as exchange:
        with pytest.raises(MalformedMessage, match="tus"):
            await exchange.upload(path, size, batch=BATCH)


@pytest.mark.parametrize("status", [404, 409, 410, 423])
async def test_a_lost_place_is_looked_for_again(tmp_path: Path, status: int) -> None:
    """It counts as a cut; the next try asks where it stands."""
    server, (path, size) = TusDouble(), file(tmp_path, BIG)
    server.answer("PATCH", "/v1/batches/1", reply(status))
    async with connected(server, pauses=[]) as exchange:
        assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
    assert ("HEAD", 0) in sent(server)


async def test_a_refusal_at_line_1_comes_before_the_rest_is_sent(
    tmp_path: Path,
) -> None:
    """A problem document; the next try begins anew."""
    server, (path, size) = TusDouble(), file(tmp_path, BIG)
    body = '{"type": "urn:fep:problem:chain-gap", "detail": "x", "expected_seq": 4}'
    server.answer("PATCH", "/v1/batches/1", reply(422, body))
    async with connected(server) as exchange:
        with pytest.raises(ExchangeRefused) as caught:
            await exchange.upload(path, size, batch=BATCH)
        assert await exchange.upload(path, size, batch=BATCH) == "a.b.c"
    assert (caught.value.problem, caught.value.members) == (
        "chain-gap",
        {"expected_seq": 4},
    )
    methods = [method for method, _ in sent(server)]
    assert methods == ["POST", "PATCH", "POST", "PATCH", "PATCH"]


async def test_an_oversized_receipt_is_refused(tmp_path: Path) -> None:
    """2 KiB is the cap."""
    server, (path, size) = TusDouble(receipt="x" * 2049), file(tmp_path, 5000)
    async with connected(server) as exchange:
        with pytest.raises(MalformedMessage, match="2048"):
            await exchange.upload(path, size, batch=BATCH)


async def test_a_file_that_shrank_is_damage(tmp_path: Path) -> None:
    """It ends before its size."""
    server, (path, size) = TusDouble(), file(tmp_path, 5000)
    path.write_bytes(b"short")
    async with connected(server) as exchange:
        with pytest.raises(SpoolDamaged):
            await exchange.upload(path, size, batch=BATCH)


# --- other requests -----------------------------------------------------------------


async def test_identifiers_travel_in_the_query(tmp_path: Path) -> None:
    """They hold slashes; they never stand in a path."""
    server = TusDouble()
    seen: list[dict[str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(dict(request.query))
        return web.Response(text="p.o.s")

    server.answer("GET", "/v1/position", handler)
    async with connected(server) as exchange:
        assert await exchange.position("330100001/000001", "n" * 22) == "p.o.s"
    assert seen == [{"resource": "330100001/000001", "nonce": "n" * 22}]


async def test_a_receipt_that_is_not_there_is_none() -> None:
    """404 is an answer, not a refusal."""
    async with connected(TusDouble()) as exchange:
        assert await exchange.receipt(BATCH) is None


async def test_statements_are_put() -> None:
    """201 or 200, and 204 for keys."""
    server = TusDouble()
    server.answer("PUT", "/v1/catalog", reply(201))
    server.answer("PUT", "/v1/catalog", reply(200))
    server.answer("POST", "/v1/keys", reply(204))
    server.answer("POST", "/v1/reconcile", reply(200, "r.e.s"))
    server.answer("GET", "/v1/directory", reply(200, "d.i.r"))
    async with connected(server) as exchange:
        await exchange.put_catalog("a.b.c")
        await exchange.put_catalog("a.b.c")
        await exchange.keys("a.b.c")
        assert await exchange.reconcile("a.b.c") == "r.e.s"
        assert await exchange.directory() == "d.i.r"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    """A login page of a proxy gets nothing."""
    server = TusDouble()
    server.answer("GET", "/v1/position", reply(status, Location="/elsewhere"))
    async with connected(server) as exchange:
        with pytest.raises(MalformedMessage, match="never followed"):
            await exchange.position("1/1", "n" * 22)
    assert [path for _, path, _ in server.requests] == ["/v1/position"]


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (503, '{"type": "urn:fep:problem:busy"}', "busy"),
        (429, '{"type": "urn:fep:problem:held", "status": 999}', "held"),
        (502, "<html>Bad Gateway</html>", "http-502"),
        (500, "", "http-500"),
        (400, '{"type": "about:blank"}', "http-400"),
        (422, '{"type": "urn:fep:problem:new-one", "detail": "d"}', "new-one"),
    ],
)
async def test_refusals_have_a_code(status: int, body: str, problem: str) -> None:
    """The document's, else the status."""
    server = TusDouble()
    server.answer("GET", "/v1/position", reply(status, body, Retry_After="17"))
    async with connected(server) as exchange:
        with pytest.raises(ExchangeRefused) as caught:
            await exchange.position("1/1", "n" * 22)
    assert (caught.value.problem, caught.value.retry_after) == (problem, 17.0)


@pytest.mark.parametrize("text", ["Fri, 21 Nov 2026 08:00:00 GMT", "soon", "-5", "1.5"])
async def test_other_forms_of_retry_after_count_as_none(text: str) -> None:
    """Seconds only."""
    server = TusDouble()
    server.answer("GET", "/v1/position", reply(503, "", Retry_After=text))
    async with connected(server) as exchange:
        with pytest.raises(ExchangeRefused) as caught:
            await exchange.position("1/1", "n" * 22)
    assert caught.value.retry_after is None


async def test_an_answer_beyond_its_cap_is_refused() -> None:
    """A position has at most 4 KiB."""
    server = TusDouble()
    server.answer("GET", "/v1/position", reply(200, "x" * 5000))
    async with connected(server) as exchange:
        with pytest.raises(MalformedMessage, match="at most 4096"):
            await exchange.position("1/1", "n" * 22)


async def test_an_answer_of_other_bytes_is_refused() -> None:
    """A compact JWS is ASCII."""
    server = TusDouble()
    server.answer("GET", "/v1/position", reply(200, "张三"))
    async with connected(server) as exchange:
        with pytest.raises(MalformedMessage, match="other bytes"):
            await exchange.position("1/1", "n" * 22)


async def test_a_silent_server_is_given_up() -> None:
    """The read timeout ends it."""

    async def silent(_request: web.Request) -> web.Response:
        await asyncio.sleep(1)
        return web.Response()

    server = TusDouble()
    server.answer("GET", "/v1/position", silent)
    async with server.serving() as url:
        endpoint = Endpoint(url, None, unsafe_plain_http=True, read_timeout_s=0.05)
        async with Exchange(endpoint, now=now) as exchange:
            with pytest.raises(ExchangeUnreachable, match="timeout"):
                await exchange.position("1/1", "n" * 22)


async def test_nobody_listening_is_unreachable() -> None:
    """The detail names address and reason."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    endpoint = Endpoint(f"http://127.0.0.1:{port}", None, unsafe_plain_http=True)
    async with Exchange(endpoint, now=now) as exchange:
        with pytest.raises(ExchangeUnreachable, match=f"127.0.0.1:{port}"):
            await exchange.position("1/1", "n" * 22)


async def test_a_name_without_address_is_unreachable() -> None:
    """Told apart from a refused connection."""
    endpoint = Endpoint("http://nowhere.invalid", None, unsafe_plain_http=True)
    async with Exchange(endpoint, now=now) as exchange:
        with pytest.raises(ExchangeUnreachable, match="no address for nowhere"):
            await exchange.position("1/1", "n" * 22)


async def test_the_servers_date_shows_a_wrong_clock() -> None:
    """An hour off is seen before anything is judged."""
    server = TusDouble()
    async with server.serving() as url:
        endpoint = Endpoint(url, None, unsafe_plain_http=True)
        late = Exchange(endpoint, now=lambda: now() - timedelta(hours=1))
        async with late as exchange:
            assert exchange.clock_offset_s is None
            await exchange.receipt(BATCH)
            assert exchange.clock_offset_s == pytest.approx(3600, abs=2)


@pytest.mark.parametrize(
    "date",
    [
        "tomorrow",
        "Sat, 21 Nov 2026 08:00:00 -0000",
        "Sat, 21 Nov 2026 08:00:00 +99999999999999999999",
        "Sat, 99999999999999999999 Nov 2026 08:00:00 GMT",
    ],
)
async def test_a_date_that_is_none_ends_nothing(date: str) -> None:
    """Nonsense, no zone, or numbers that overflow: as if there were no header."""
    server = TusDouble()
    server.answer("GET", "/v1/receipt", reply(200, "a.b.c", Date=date))
    async with connected(server) as exchange:
        assert await exchange.receipt(BATCH) == "a.b.c"
        assert exchange.clock_offset_s is None


async def test_a_client_that_is_not_open_says_so() -> None:
    """A defect of the assembly, not of the line."""
    exchange = Exchange(Endpoint("http://x", None, unsafe_plain_http=True), now=now)
    with pytest.raises(RuntimeError, match="not open"):
        await exchange.receipt(BATCH)


# --- TLS ------------------------------------------------------------------------------


def server_context(cert: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cafile=client_ca)
    return context


async def test_both_sides_show_certificates(tmp_path: Path) -> None:
    """TLS 1.3 with the pinned CA and our certificate."""
    ca = Authority(tmp_path)
    ours, theirs = ca.client(), ca.server()
    server = TusDouble(receipts={"1": "r.e.c"})
    context = server_context(theirs.cert, theirs.key, ca.cert)
    async with server.serving(context) as url:
        endpoint = Endpoint(url, ca.cert, ours.cert, ours.key)
        async with Exchange(endpoint, now=now) as exchange:
            assert await exchange.receipt(BATCH) == "r.e.c"
    assert server.tls == ["TLSv1.3"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("ca", "another CA"),
        ("name", "another address"),
        ("expired", "expired"),
        ("early", "not valid yet"),
    ],
)
async def test_a_bad_server_certificate_is_told_by_its_fault(
    tmp_path: Path, fault: str, words: str
) -> None:
    """Wrong CA, wrong name, expired and not yet valid have different remedies."""
    ca = Authority(tmp_path)
    theirs = {
        "ca": lambda: Authority(tmp_path, "other").server(),
        "name": lambda: ca.server(address="127.0.0.2"),
        "expired": lambda: ca.server(begins=-3 * DAY, ends=-DAY),
        "early": lambda: ca.server(begins=DAY),
    }[fault]()
    server = TusDouble()
    async with server.serving(server_context(theirs.cert, theirs.key, None)) as url:
        client = Exchange(Endpoint(url, ca.cert), now=now)
        async with client as exchange:
            with pytest.raises(ExchangeUntrusted, match=words):
                await exchange.receipt(BATCH)
    assert server.requests == []


async def test_a_refused_client_certificate_is_told(tmp_path: Path) -> None:
    """TLS 1.3 tells it late, as an alert instead of an answer."""
    ca, other = Authority(tmp_path), Authority(tmp_path, "other")
    ours, theirs = other.client(), ca.server()
    server = TusDouble()
    context = server_context(theirs.cert, theirs.key, ca.cert)
    async with server.serving(context) as url:
        endpoint = Endpoint(url, ca.cert, ours.cert, ours.key)
        async with Exchange(endpoint, now=now) as exchange:
            with pytest.raises((ExchangeUntrusted, ExchangeUnreachable)):
                await exchange.receipt(BATCH)


async def test_a_server_without_tls_is_not_trusted(tmp_path: Path) -> None:
    """Something else answers on the port."""
    ca = Authority(tmp_path)
    server = TusDouble()
    async with server.serving() as url:
        https = url.replace("http:", "https:")
        async with Exchange(Endpoint(https, ca.cert), now=now) as exchange:
            with pytest.raises(ExchangeUntrusted, match="TLS failed"):
                await exchange.receipt(BATCH)


def test_tls_begins_at_1_2_and_trusts_one_file(tmp_path: Path) -> None:
    """The machine's store is not used; names are checked."""
    ca = Authority(tmp_path)
    context = tls_context(Endpoint("https://x", ca.cert))
    assert isinstance(context, ssl.SSLContext)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert (context.check_hostname, len(context.get_ca_certs())) == (True, 1)


@pytest.mark.parametrize("url", ["http://x", "ftp://x", "https"])
def test_only_https_is_taken(tmp_path: Path, url: str) -> None:
    """Plain HTTP needs a switch with unsafe in its name."""
    with pytest.raises(ConfigInvalid, match=r"exchange\.url"):
        tls_context(Endpoint(url, tmp_path))


def test_files_that_are_no_certificates_are_named(tmp_path: Path) -> None:
    """CA, certificate and key."""
    ca, junk = Authority(tmp_path), tmp_path / "junk.pem"
    junk.write_text("junk")
    with pytest.raises(ConfigInvalid, match=r"junk\.pem"):
        tls_context(Endpoint("https://x", junk))
    with pytest.raises(ConfigInvalid, match=r"junk\.pem"):
        tls_context(Endpoint("https://x", ca.cert, junk, junk))

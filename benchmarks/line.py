# SPDX-License-Identifier: Apache-2.0
"""A narrow line that is cut: how much is sent twice, and what lookups feel of it.

    scripts/bench line --json

``--mb`` MB of sealed batches of four streams go to the exchange over a line of
``--mbit`` Mbit/s, whose connections are all reset every ``--cut-every`` seconds; the
spool has room for a third of it, so that reading has to wait. Meanwhile another
department asks for a person every 200 ms, through the exchange and over the same line.
A question that a cut takes with it is asked again until it is answered; its time counts
from when it should first have been asked.

``resent_ratio`` is everything that the agent put on the line beyond the sealed bytes:
what a cut destroyed, TLS, HTTP, and the answers to lookups. The line is a relay of TCP
(``tests/support/narrow_line.py``) with one queue of 256 KiB for all connections, as a
modem has.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.demo.site import Site
from benchmarks import lookup as asking
from benchmarks.lookup import CONSUMER, POLICY, activate, consumer_of
from benchmarks.process import PeakMemory, rss_bytes
from benchmarks.site import RESOURCE_HEAD, Wish, running
from sandbox.consumer.client import Consumer
from sandbox.consumer.home import Home
from sandbox.consumer.home import Target as Exchange
from tests.support.narrow_line import LineProcess, narrow_line
from tests.support.population import load_sqlite

STREAMS = 4
BLOB = 64 * 1024
ASK_EVERY_S = 0.2
AGAIN_S = 0.02
PATIENCE_S = 900.0
JOSE = {"Content-Type": "application/jose"}


@dataclass
class Asked:
    """What became of the questions; times in milliseconds, from when each was due."""

    answered: list[float] = field(default_factory=list)
    again: int = 0
    failed: int = 0

    def figures(self) -> dict[str, Any]:
        """The published form."""
        found = sorted(self.answered)
        return {
            "lookups": len(found),
            "lookups_asked_again": self.again,
            "lookups_failed": self.failed,
            "lookup_p50_ms": round(found[len(found) // 2], 1) if found else None,
            "lookup_p99_ms": round(found[int(len(found) * 0.99)], 1) if found else None,
            "lookup_max_ms": round(found[-1], 1) if found else None,
        }


class Asker:
    """A department that asks all the time, from threads of its own."""

    def __init__(self, consumer: Consumer, home: Home, url: str, people: list[str]):
        self._consumer = consumer
        self._home = home
        self._url = urlsplit(url)
        self._people = people
        self._local = threading.local()
        self.asked = Asked()

    def ask(self, due: float) -> None:
        """One question, until it is answered."""
        consumer = self._consumer
        person = random.choice(self._people)
        question = consumer.build(consumer.request(asking.body_of([person])))
        until = due + 20
        while time.monotonic() < until:
            try:
                status, text = self._post(question.jwe.encode())
            except (OSError, HTTPException):
                status, text = 0, b""
            if status == 200:
                self.asked.answered.append((time.monotonic() - due) * 1000)
                reply = consumer.open(text.decode(), question).reply
                self.asked.failed += reply.status != "ok"
                return
            self.asked.again += 1
            time.sleep(AGAIN_S)
        self.asked.failed += 1

    def _post(self, body: bytes) -> tuple[int, bytes]:
        line = getattr(self._local, "line", None)
        if line is None:
            host, port = str(self._url.hostname), self._url.port
            line = HTTPSConnection(host, port, context=self._home.tls(), timeout=10)
            self._local.line = line
        try:
            line.request("POST", "/v1/relay", body, JOSE)
            answer = line.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException):
            line.close()
            self._local.line = None
            raise


@contextmanager
def asked_meanwhile(asker: Asker) -> Iterator[None]:
    """Questions at fixed moments during the block."""
    end = threading.Event()

    def forever(pool: ThreadPoolExecutor) -> None:
        due = time.monotonic()
        while not end.wait(max(0.0, due - time.monotonic())):
            pool.submit(asker.ask, due)
            due += ASK_EVERY_S

    with ThreadPoolExecutor(8) as pool:
        thread = threading.Thread(target=forever, args=(pool,))
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()


def load_blobs(path: Path, megabytes: int) -> None:
    """Four tables of random bytes, which no compression makes smaller."""
    rows = megabytes * 1_000_000 // BLOB // STREAMS
    with closing(sqlite3.connect(path)) as db, db:
        for number in range(STREAMS):
            db.execute(
                f"create table blobs_{number} (id integer primary key, data blob)"
            )
            db.executemany(
                f"insert into blobs_{number} values (?, ?)",
                ((i, os.urandom(BLOB)) for i in range(rows)),
            )


def resource(number: int) -> str:
    """Code of a stream's resource."""
    return f"101001/1{number:05d}"


def write_documents(place: Site) -> None:
    """The documents of the four streams, and a spool with little room."""
    for number in range(STREAMS):
        head = RESOURCE_HEAD.format(
            lookup="false", table=json.dumps([f"blobs_{number}"])
        ).replace("101001/000001", resource(number))
        items = (
            '\n[[items]]\nname = "id"\ntitle = "编号"\ntype = "I"\nkey = true\n'
            '\n[[items]]\nname = "data"\ntitle = "内容"\ntype = "G"\n'
        )
        path = place.catalog / f"blobs_{number}.toml"
        path.write_text(head + items, encoding="utf-8")


@dataclass(frozen=True)
class Work:
    """What is measured."""

    place: Site
    agent: int
    line: LineProcess
    asker: Asker


@contextmanager
def world(wish: argparse.Namespace, folder: Path) -> Iterator[Work]:
    """Source, exchange, line, agent and the department that asks."""
    source = folder / "source.db"
    load_sqlite(source, 1000)
    load_blobs(source, wish.mb)
    with closing(sqlite3.connect(source)) as db, db:
        db.execute("create index by_id_no on population (id_no)")
        sql = "select id_no from population group by id_no having count(*) = 1"
        people = [row[0] for row in db.execute(sql) if row[0]]
    home = Home(folder / "consumer")
    lines: list[LineProcess] = []

    def join(slip: Path) -> None:
        words = ["-m", "sandbox.consumer", "--dir", str(home.folder)]
        words += ["--exchange", str(slip), "enrol", "--node", CONSUMER]
        subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
        (folder / "w" / "policy.toml").write_text(POLICY)

    @contextmanager
    def over(url: str) -> Iterator[str]:
        there = urlsplit(url)
        with narrow_line(
            str(there.hostname),
            int(there.port or 443),
            bytes_per_s=wish.mbit * 1e6 / 8,
            cut_every_s=wish.cut_every,
            pause_s=wish.pause,
        ) as line:
            lines.append(line)
            yield f"https://127.0.0.1:{line.port}"

    setup = Wish(
        folder=folder / "w",
        source=f'[sources.rsj]\nconnector = "sqlite"\npath = "{source}"\n',
        table=["population"],
        load=True,
        batch_raw_mb=8,
        lookup=True,
        quota_mb=max(64, wish.mb // 3),
        over=over,
    )
    setup.folder.mkdir()
    with running(setup, join=join, also=write_documents) as (place, agent):
        activate(place)
        exchange = Exchange.of_file(place.exchange / "sandbox.json")
        directory = fetch_directory(home, exchange)
        consumer = consumer_of(home, exchange, directory)
        yield Work(place, agent, lines[0], Asker(consumer, home, exchange.url, people))


def fetch_directory(home: Home, exchange: Exchange) -> str:
    """The directory as the exchange has signed it."""
    url = urlsplit(exchange.url)
    with closing(
        HTTPSConnection(str(url.hostname), url.port, context=home.tls(), timeout=10)
    ) as line:
        line.request("GET", "/v1/directory")
        return line.getresponse().read().decode()


@contextmanager
def watched_rss(pid: int) -> Iterator[list[float]]:
    """The daemon's own resident memory, every second, MB."""
    found: list[float] = []
    end = threading.Event()

    def forever() -> None:
        while not end.wait(1.0):
            found.append(rss_bytes([pid]) / 1e6)

    thread = threading.Thread(target=forever)
    thread.start()
    try:
        yield found
    finally:
        end.set()
        thread.join()


def measure(wish: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    with (
        tempfile.TemporaryDirectory(prefix="fepn-", dir=wish.folder) as name,
        world(wish, Path(name)) as work,
    ):
        time.sleep(2)
        log = work.place.folder / "agent.log"
        before, began = work.line.begin_cuts(), time.monotonic()
        with (
            PeakMemory(work.agent, every_s=0.2) as memory,
            watched_rss(work.agent) as rss,
            asked_meanwhile(work.asker),
        ):
            for number in range(STREAMS):
                work.place.client().post("/v1/pull", {"resource": resource(number)})
            sealed = follow(log)
            seconds = time.monotonic() - began
            after = work.line.counts()
        check_whole(work)
    third = max(1, len(rss) // 3)
    sent = after["up"] - before["up"]
    return {
        "benchmark": "line",
        "mb": round(sealed / 1e6, 1),
        "mbit": wish.mbit,
        "cut_every_s": wish.cut_every,
        "cuts": after["cuts"] - before["cuts"],
        "seconds": round(seconds, 1),
        "line_used": round(sealed * 8 / seconds / (wish.mbit * 1e6), 3),
        "resent_ratio": round(sent / sealed - 1, 4),
        "lost_mb": round((after["lost"] - before["lost"]) / 1e6, 2),
        "peak_rss_mb": round(memory.bytes / 1e6, 1),
        "daemon_rss_mb": round(max(rss[:third], default=0), 1),
        "daemon_rss_later_mb": round(max(rss[-third:], default=0), 1),
        **work.asker.asked.figures(),
    }


def follow(log: Path) -> int:
    """Wait until every batch of every stream has its receipt; the bytes sealed."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        time.sleep(0.25)
        events = [
            json.loads(text)
            for text in log.read_bytes().rpartition(b"\n")[0].splitlines()
            if text[:1] == b"{"
        ]
        if failed := [e for e in events if e["event"] == "run.failed"]:
            raise SystemExit(f"a run failed: {failed[0]}")
        ended = {e["resource"] for e in events if e["event"] == "run.ended"}
        batches = {key(e): e for e in events if e["event"] == "batch.registered"}
        stored = {key(e) for e in events if e["event"] == "receipt.kept"}
        if len(ended) == STREAMS and batches.keys() <= stored:
            return sum(int(e["size"]) for e in batches.values())
    raise SystemExit(f"not everything arrived within {PATIENCE_S:g} s; see {log}")


def key(event: dict[str, Any]) -> tuple[str, int, int]:
    """Which batch an event is of."""
    return event["resource"], event["epoch"], event["seq"]


def check_whole(work: Work) -> None:
    """Every run's rows are loaded, by the exchange's receipts.

    Raises:
        SystemExit: they are not.
    """
    until = time.monotonic() + 60
    left = set(range(STREAMS))
    while left and time.monotonic() < until:
        time.sleep(0.5)
        for number in tuple(left):
            code = resource(number).replace("/", "%2F")
            found = work.place.client().get(f"/v1/status?resource={code}")
            if found["resources"][0]["run"]["delivered"]:
                left.discard(number)
    if left:
        raise SystemExit(f"not loaded: {[resource(n) for n in left]}")


def main() -> None:
    """Take the options, measure, print."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench line",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--mb", type=int, default=200)
    parser.add_argument("--mbit", type=float, default=10.0)
    parser.add_argument("--cut-every", type=float, default=3.0)
    parser.add_argument("--pause", type=float, default=0.0, help="s without a line")
    parser.add_argument("--folder", default=None, help="where to work; default /tmp")
    parser.add_argument("--json", action="store_true")
    wish = parser.parse_args()
    result = measure(wish)
    print(json.dumps(result) if wish.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

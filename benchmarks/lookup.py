# SPDX-License-Identifier: Apache-2.0
"""How many lookups an agent answers, beside the bare database and Datasette.

    scripts/bench lookup --json

A ``get`` of five fields by citizen number out of ``--rows`` persons in PostgreSQL.
Every request is signed, sealed, different, and asked once; every answer was recorded
durably before it left. The figures of 1, 16 and 64 at a time are taken on the agent's
own listener over mutual TLS, where the client is the exchange; ``relayed`` goes through
an exchange over the line that the agent opens; ``verify_1000`` asks to compare 1,000
persons in one request. Requests are made beforehand (they live two minutes), answers
are opened afterwards: one in a hundred is decrypted, verified and compared with the
database. Database, agent, exchange and load share this machine's cores.

References in the same run: ``pgbench`` (prepared, by primary key, no cryptography) and
Datasette (plain HTTP, the same rows by citizen number out of SQLite).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from agent.demo.site import Site
from agent.errors import FepError
from benchmarks import load
from benchmarks.load import Load, Target
from benchmarks.process import cpu_s, rss_bytes, tree
from benchmarks.site import NODE, RESOURCE, Wish, running
from sandbox.consumer.client import Consumer, Question
from sandbox.consumer.home import Home
from sandbox.consumer.home import Target as Exchange
from tests.support.population import load_postgres, load_sqlite
from tests.support.postgres import Server, private_server

CONSUMER = "11990100MB0000027F/bench"
FIELDS = ("name", "birth_date", "region_code", "status", "address")
BASIS = "YBJ-2026-0001"
LIFE_S = 120
"""Longest life of a request."""
DATASETTE = Path(".work/bench/bin/datasette")

POLICY = f"""\
[[grants]]
id = "bench"
consumers = ["{CONSUMER.partition("/")[0]}"]
resource = "{RESOURCE}"
ops = ["get", "verify"]
keys = ["id_no"]
purposes = [{{ purpose = "administrative_basis", basis = 'YBJ-[0-9-]+' }}]
max_items = 1000
[grants.fields]
name = "show"
birth_date = "show"
region_code = "show"
status = "show"
address = "show"
"""

LOOKUP = """\
[lookup]
listen = "127.0.0.1:{port}"
in_flight = 256
peer_in_flight = 256
peer_per_s = 100000
"""


@dataclass(frozen=True)
class Work:
    """What is asked, and of whom.

    Args:
        server: the database.
        place: the agent's files.
        home: the consumer's files.
        people: citizen numbers, shuffled.
        listen: port of the agent's listener.
        agent: pid of the daemon.
    """

    server: Server
    place: Site
    home: Home
    people: Sequence[str]
    listen: int
    agent: int

    def exchange(self) -> Exchange:
        """The sandbox."""
        return Exchange.of_file(self.place.exchange / "sandbox.json")


# --- questions -----------------------------------------------------------------------


def consumer_of(home: Home, exchange: Exchange, directory: str) -> Consumer:
    """The department that asks."""
    return Consumer(
        node=home.node(),
        sign=home.key("sign"),
        decrypt=home.key("decrypt"),
        directory=exchange.verified(directory),
    )


def _questions(job: tuple[Path, Path, str, list[dict[str, Any]]]) -> list[Question]:
    folder, file, directory, bodies = job
    consumer = consumer_of(Home(folder), Exchange.of_file(file), directory)
    return [consumer.build(consumer.request(body)) for body in bodies]


def questions(
    work: Work, directory: str, bodies: Sequence[dict[str, Any]]
) -> list[Question]:
    """Sign and seal, on all cores."""
    half = len(bodies) // 2 or 1
    jobs = [
        (work.home.folder, work.place.exchange / "sandbox.json", directory, list(part))
        for part in (bodies[:half], bodies[half:])
        if part
    ]
    with get_context("spawn").Pool(len(jobs)) as pool:
        return [q for part in pool.map(_questions, jobs) for q in part]


def body_of(people: Sequence[str], *, verify: bool = False) -> dict[str, Any]:
    """A request for some persons."""
    claims = {"name": "张三", "region_code": "990102"}
    items: list[dict[str, Any]] = [{"keys": {"id_no": p}} for p in people]
    iat = int(time.time())
    if verify:
        items = [{**item, "claims": claims} for item in items]
    return {
        "aud": NODE,
        "iat": iat,
        "exp": iat + LIFE_S,
        "op": "verify" if verify else "get",
        "resource": RESOURCE,
        "items": items,
        "fields": list(claims) if verify else list(FIELDS),
        "purpose": "administrative_basis",
        "basis": BASIS,
        "officer": {"id": "bench", "auth": "password"},
    }


# --- measuring -----------------------------------------------------------------------


def measured(
    work: Work, target: Target, asked: Sequence[Question], *, connections: int
) -> tuple[Load, dict[str, Any]]:
    """Send everything once; the answers, and what they cost the agent."""
    requests = [target.request(q.jwe.encode()) for q in asked]
    before = sum(cpu_s(pid) for pid in tree(work.agent))
    found = load.run(target, requests, connections=connections, keep_every=100)
    used = sum(cpu_s(pid) for pid in tree(work.agent)) - before
    figures = found.figures()
    figures["agent_cpu_us"] = round(used / max(found.answers, 1) * 1e6)
    return found, figures


def check(work: Work, directory: str, asked: Sequence[Question], found: Load) -> int:
    """Open kept answers and compare them with the database; how many were.

    Raises:
        SystemExit: an answer is not what the database holds.
    """
    consumer = consumer_of(work.home, work.exchange(), directory)
    for number, text in found.bodies:
        question = asked[number]
        reply = consumer.open(text.decode(), question).reply
        if reply.status != "ok" or len(reply.results) != len(question.request.items):
            raise SystemExit(f"an answer says {reply.status}: {reply.reasons}")
        if question.request.op == "get":
            person = question.request.items[0].keys["id_no"]
            wanted = work.server.sql(
                f"select {', '.join(FIELDS)} from population where id_no = '{person}'"
            )
            data = reply.results[0].data or {}
            if [data[f] for f in FIELDS] != wanted.split("|"):
                raise SystemExit("an answer differs from the database")
    return len(found.bodies)


def listener(work: Work) -> Target:
    """The agent's listener, as the exchange reaches it."""
    keys = work.place.exchange / "keys"
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.load_verify_locations(keys / "ca.pem")
    tls.check_hostname = False  # the certificate names the node, not a host
    tls.load_cert_chain(keys / "relay.pem", keys / "relay.key")
    return Target("127.0.0.1", work.listen, "/v1/lookups", tls=tls)


def relay(work: Work) -> Target:
    """The exchange, as a consumer reaches it."""
    url = urlsplit(work.exchange().url)
    tls = work.home.tls()
    return Target(str(url.hostname), int(url.port or 443), "/v1/relay", tls=tls)


def lookups(work: Work, wish: argparse.Namespace) -> dict[str, Any]:
    """Every figure of ours."""
    directory = fetch_directory(work)
    people = iter(work.people)
    found: dict[str, Any] = {"concurrency": {}}

    def take(count: int) -> list[str]:
        return [next(people) for _ in range(count)]

    def asked(count: int) -> list[Question]:
        return questions(work, directory, [body_of([p]) for p in take(count)])

    inbound, relayed = listener(work), relay(work)
    measured(work, inbound, asked(200), connections=4)  # warms everything up
    for connections in (1, 16, 64):
        ready = asked(wish.requests if connections > 1 else wish.requests // 4)
        heard, figures = measured(work, inbound, ready, connections=connections)
        figures["opened"] = check(work, directory, ready, heard)
        found["concurrency"][str(connections)] = figures
    ready = asked(wish.requests // 2)
    heard, figures = measured(work, relayed, ready, connections=32)
    figures["opened"] = check(work, directory, ready, heard)
    found["relayed_32"] = figures
    thousands = [body_of(take(1000), verify=True) for _ in range(wish.verifies)]
    ready = questions(work, directory, thousands)
    heard, figures = measured(work, inbound, ready, connections=2)
    check(work, directory, ready, heard)
    figures["items_per_s"] = figures["lookups_per_s"] * 1000
    found["verify_1000"] = figures
    return found


def fetch_directory(work: Work) -> str:
    """The directory as the exchange has signed it."""
    target = relay(work)
    fetch = replace(target, path="/v1/directory", method="GET")
    found = load.run(fetch, [fetch.request(b"")], connections=1, keep_every=1)
    return found.bodies[0][1].decode()


# --- references ----------------------------------------------------------------------


def pgbench(server: Server, rows: int, folder: Path, *, clients: int) -> int:
    """Transactions per second of one prepared select by primary key."""
    script = folder / "select.sql"
    script.write_text(
        f"\\set id random(1, {rows})\n"
        f"select {', '.join(FIELDS)} from population where id = :id;\n"
    )
    script.chmod(0o644)
    done = subprocess.run(
        [
            str(server.programs / "pgbench"),
            *("-h", str(server.socket_folder), "-p", str(server.port)),
            *("-U", "postgres", "-n", "-M", "prepared", "-f", str(script)),
            *("-c", str(clients), "-j", "1", "-T", "5", "postgres"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    match = re.search(r"tps = ([0-9.]+) ", done.stdout)
    if match is None:
        raise SystemExit(f"pgbench said {done.stdout!r}")
    return round(float(match[1]))


def datasette(folder: Path, rows: int, people: Sequence[str]) -> dict[str, Any]:
    """Datasette over the same rows in SQLite, by citizen number."""
    if not DATASETTE.exists():
        return {"skipped": f"no {DATASETTE}"}
    file = folder / "population.db"
    load_sqlite(file, rows)
    port = free_port()
    subprocess.run(
        ["sqlite3", str(file), "create index by_id_no on population (id_no)"],
        check=True,
    )
    words = [str(DATASETTE), "serve", "-i", str(file), "--port", str(port)]
    server = subprocess.Popen(
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    found: dict[str, Any] = {}
    try:
        wait_for(port)
        target = Target("127.0.0.1", port, "/", method="GET")
        for connections in (1, 16, 64):
            paths = [
                f"/population/population.json?id_no__exact={quote(p)}&_shape=array"
                for p in people[: 500 if connections == 1 else 2000]
            ]
            requests = [target.request(b"", path=p) for p in paths]
            heard = load.run(
                target, requests, connections=connections, keep_every=10**9
            )
            found[str(connections)] = heard.figures()
    finally:
        server.terminate()
        server.wait()
    return found


def free_port() -> int:
    """A port that nobody has now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def wait_for(port: int) -> None:
    """Until somebody listens."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"nobody listens on {port}")


# --- the run -------------------------------------------------------------------------


@contextmanager
def world(wish: argparse.Namespace, folder: Path) -> Iterator[Work]:
    """Database, exchange, consumer and agent."""
    with private_server() as server:
        load_postgres(server, wish.rows)
        server.sql(
            "create index by_id_no on population (id_no);"
            " vacuum (freeze, analyze) population; checkpoint;"
        )
        share = min(100.0, 100.0 * 3 * wish.people / wish.rows)
        people = server.sql(
            f"select id_no from population s tablesample bernoulli ({share})"
            " where id_no <> '' and (select count(*) from population p"
            " where p.id_no = s.id_no) = 1"
        ).split()
        random.Random(7).shuffle(people)  # a fixed order
        port = free_port()
        home = Home(folder / "consumer")
        setup = Wish(
            folder=folder / "w",
            source=f'[sources.rsj]\nconnector = "postgres"\n'
            f'host = "{server.socket_folder}"\nport = {server.port}\n'
            f'database = "postgres"\nuser = "postgres"\n{LOOKUP.format(port=port)}',
            table=["public", "population"],
            load=False,
            batch_raw_mb=8,
            lookup=True,
        )
        setup.folder.mkdir()

        def join(slip: Path) -> None:
            subprocess.run(
                [
                    *(sys.executable, "-m", "sandbox.consumer", "--dir"),
                    *(str(home.folder), "--exchange", str(slip)),
                    *("enrol", "--node", CONSUMER),
                ],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            (setup.folder / "policy.toml").write_text(POLICY)

        with running(setup, join=join) as (place, agent):
            activate(place)
            yield Work(server, place, home, people, port, agent)


def activate(place: Site) -> None:
    """Let the policy count, once the agent answers."""
    try:
        place.client().post("/v1/policy/activate", {})
    except FepError as e:
        raise SystemExit(f"the policy was not activated: {e}") from e


def measure(wish: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    with tempfile.TemporaryDirectory(prefix="fepl-", dir=wish.folder) as name:
        folder = Path(name)
        folder.chmod(0o755)  # pgbench may run as another user
        with world(wish, folder) as work:
            time.sleep(2)
            found = lookups(work, wish)
            found["agent_rss_mb"] = round(rss_bytes(tree(work.agent)) / 1e6, 1)
            references: dict[str, Any] = {
                "pgbench_tps": {
                    str(c): pgbench(work.server, wish.rows, folder, clients=c)
                    for c in (1, 16, 64)
                }
            }
            people = work.people
        references["datasette"] = datasette(folder, wish.rows, people[-5000:])
    head = {"benchmark": "lookup", "rows": wish.rows, "requests": wish.requests}
    return {**head, **found, "references": references}


def median_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians of the figures of several runs, figure by figure."""

    def middle(values: list[Any]) -> Any:
        if isinstance(values[0], dict):
            return {k: middle([v[k] for v in values]) for k in values[0]}
        numbers = all(isinstance(v, int | float) for v in values)
        return statistics.median(values) if numbers else values[0]

    return dict(middle(list(runs)))


def main() -> None:
    """Take the options, measure, print."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench lookup",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--requests", type=int, default=12_000)
    parser.add_argument("--verifies", type=int, default=20)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--folder", default=None, help="where to work; default /tmp")
    parser.add_argument("--json", action="store_true")
    wish = parser.parse_args()
    wish.people = wish.requests * 3 + wish.verifies * 1000 + 6000
    result = median_of([measure(wish) for _ in range(wish.runs)])
    print(json.dumps(result) if wish.json else json.dumps(result, indent=2))


if __name__ == "__main__":
    main()

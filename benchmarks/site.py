# SPDX-License-Identifier: Apache-2.0
"""A department with a population register, its agent and an exchange, for measuring."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from agent.demo import site
from agent.demo.site import Site

NODE = "11990100MB0000018H/bench"
RESOURCE = "101001/000001"

SETTINGS = """\
[agent]
node = "{node}"
[paths]
state = "{state}"
run = "{run}"
[exchange]
aud = "{aud}"
url = "{url}"
ca_sha256 = "{ca_sha256}"
kid = "{kid}"
[spool]
quota_mb = {quota_mb}
[push]
batch_raw_mb = {batch_raw_mb}
{source}
"""

RESOURCE_HEAD = """\
code = "101001/000001"
name = "人口登记信息"
version = 1
push = true
lookup = {lookup}
resource_class_path = ["基础信息资源", "人口"]
abstract = "人口登记，用于测量。"
provider_name = "云溪市人力资源和社会保障局"
provider_code = "11990100MB0000018H"
responsible_party = "信息中心"
authoritative_source = "云溪市人力资源和社会保障局"
acquisition_mode = "direct"
format_category = "database"
format_type = "postgresql"
share_type = "conditional"
share_condition = "测量"
share_scope = "云溪市"
share_method = "database"
use_requirements = "无"
open_to_public = false
secrecy_level = "unclassified"
update_cycle = "daily"
update_deadline = "每日"
published_on = 2026-09-01
[secrecy_review]
reviewer = "保密办"
on = 2026-08-20
[binding]
source = "rsj"
table = {table}
"""

ITEMS = (
    'name = "id"\ntitle = "编号"\ntype = "I"\nkey = true',
    'name = "id_no"\ntitle = "公民身份号码"\ntype = "C"\nlength = 18\nrequired = true\n'
    'rules = ["citizen_id"]',
    'name = "name"\ntitle = "姓名"\ntype = "C"\nlength = 30\nrequired = true',
    'name = "gender"\ntitle = "性别"\ntype = "C"\nlength = 2\n'
    'rules = ["code:gender_name"]',
    'name = "birth_date"\ntitle = "出生日期"\ntype = "D"',
    'name = "ethnicity"\ntitle = "民族"\ntype = "C"\nlength = 20\n'
    'rules = ["code:ethnicity_name"]',
    'name = "address"\ntitle = "住址"\ntype = "C"\nlength = 200',
    'name = "phone"\ntitle = "电话"\ntype = "C"\nlength = 20',
    'name = "region_code"\ntitle = "区划"\ntype = "C"\nlength = 6\n'
    'rules = ["code:region"]',
    'name = "household_no"\ntitle = "户号"\ntype = "C"\nlength = 20',
    'name = "status"\ntitle = "状态"\ntype = "I"',
    'name = "income"\ntitle = "收入"\ntype = "N"\nlength = 12\nscale = 2',
    'name = "created_at"\ntitle = "建档时间"\ntype = "T"',
    'name = "updated_at"\ntitle = "更新时间"\ntype = "T"',
)

RULES = (
    "required: id_no, name",
    "citizen_id: id_no (GB 11643: form, date of birth, check digit)",
    "code:gender_name: gender (GB/T 2261.1)",
    "code:ethnicity_name: ethnicity (GB/T 3304)",
    "code:region: region_code (GB/T 2260)",
    "secrecy_marker: every text",
)
"""The six rules that :data:`ITEMS` and the defaults lead to, for people.

What every push judges beside them: types, lengths, ranges and the order of the keys.
"""


def document(table: list[str], *, lookup: bool) -> str:
    """The resource document of ``population`` in the given table."""
    head = RESOURCE_HEAD.format(table=json.dumps(table), lookup=json.dumps(lookup))
    return head + "".join(f"\n[[items]]\n{item}\n" for item in ITEMS)


@dataclass(frozen=True)
class Wish:
    """What to set up.

    Args:
        folder: an empty folder with a short path.
        source: TOML text of ``[sources.rsj]``.
        table: where the rows are, outermost first.
        load: whether the exchange loads what it stores.
        batch_raw_mb: as in the settings.
        lookup: whether the resource may be looked up.
        quota_mb: as in the settings.
        over: gives the address by which the agent reaches the exchange's.
    """

    folder: Path
    source: str
    table: list[str]
    load: bool
    batch_raw_mb: int
    lookup: bool = False
    quota_mb: int = 16384
    over: Callable[[str], AbstractContextManager[str]] = nullcontext


@contextmanager
def running(
    wish: Wish,
    *,
    join: Callable[[Path], None] = lambda _slip: None,
    also: Callable[[Site], None] = lambda _place: None,
) -> Iterator[tuple[Site, int]]:
    """An enrolled agent and an exchange; gives the place and the daemon's pid.

    Args:
        wish: see there.
        join: called with ``sandbox.json`` before the agent enrols.
        also: called with the place before the agent starts, to write more documents.
    """
    place = Site(wish.folder)
    words = ["-m", "sandbox", "--dir", str(place.exchange), "--approve-all"]
    words += [] if wish.load else ["--no-load"]
    with site.process(words, log=wish.folder / "exchange.log") as exchange:
        ready = place.exchange / "sandbox.json"
        site.wait_until(ready.exists, exchange, what="the sandbox")
        slip = json.loads(ready.read_text())
        join(ready)
        with wish.over(slip["url"]) as url:
            write_settings(place, wish, {**slip, "url": url})
            also(place)
            words = ["-c", site.FEP, "enrol", "--config", str(place.config)]
            subprocess.run(
                [sys.executable, *words], check=True, stdout=subprocess.DEVNULL
            )
            with site.daemon(place) as agent:
                yield place, agent.pid


def write_settings(place: Site, wish: Wish, slip: dict[str, str]) -> None:
    """``agent.toml`` and the one resource document."""
    for folder in (place.catalog, place.state, place.run):
        folder.mkdir(exist_ok=True, mode=0o700)
    text = SETTINGS.format(
        node=NODE,
        state=place.state,
        run=place.run,
        source=wish.source,
        batch_raw_mb=wish.batch_raw_mb,
        quota_mb=wish.quota_mb,
        **{name: slip[name] for name in ("aud", "url", "ca_sha256", "kid")},
    )
    place.config.write_text(text, encoding="utf-8")
    (place.catalog / "population.toml").write_text(
        document(wish.table, lookup=wish.lookup), encoding="utf-8"
    )

# SPDX-License-Identifier: Apache-2.0
"""agent.toml: everything that is wrong, at once, with file and key."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from agent.errors import ConfigInvalid
from agent.model.pacing import Bounds, Rate
from agent.schedule import Plan
from agent.settings import Settings, load, template
from agent.settings.model import Schedule, SourceLimits
from agent.settings.schema import text as schema_text
from tests.support.settings_text import MINIMAL, write

ROOT = Path(__file__).resolve().parents[3]
SPECS: dict[str, dict[str, Any]] = {
    "postgres": {
        "properties": {
            "host": {"type": "string"},
            "port": {"type": "integer"},
            "user": {"type": "string"},
            "sslmode": {"type": "string", "enum": ["disable", "verify-full"]},
            "password": {"type": "string", "secret": True},
            "pin": {"type": "string", "secret": True},
        },
        "required": ["host"],
    },
    "sqlite": {"properties": {"path": {"type": "string"}}, "required": ["path"]},
}


def faults(path: Path, **options: Any) -> dict[str, tuple[str, str | None]]:
    """Key -> expected, got."""
    with pytest.raises(ConfigInvalid) as caught:
        load(path, **options)
    assert all(fault.file == str(path) for fault in caught.value.faults)
    return {f.key: (f.expected, f.got) for f in caught.value.faults}


def test_the_smallest_file_has_every_default(tmp_path: Path) -> None:
    """Only node and exchange have to be written."""
    found = load(write(tmp_path))
    assert found.agent.timezone == "Asia/Shanghai"
    assert found.agent.department == "11990100MB0000018H"
    assert found.agent.catalog == tmp_path / "catalog"
    assert found.paths.socket == Path("/run/fep/fep.sock")
    assert found.push.batch_raw_mb == 16
    assert found.quality.severity()["secrecy_marker"] == "halt"
    assert found.sources == {}


def test_relative_paths_start_at_the_files_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the folder in which the program was started."""
    monkeypatch.chdir("/")
    found = load(write(tmp_path, '[paths]\nstate = "s"\nrun = "/run/x"\n'))
    assert found.paths.keys == tmp_path / "s/keys"
    assert found.paths.database == tmp_path / "s/state.db"
    assert found.paths.spool == tmp_path / "s/spool"
    assert found.paths.quarantine == tmp_path / "s/quarantine"
    assert found.paths.run == Path("/run/x")


def test_every_fault_is_listed_at_once(tmp_path: Path) -> None:
    """Unknown key, wrong type, wrong value, missing key, wrong form: one error."""
    path = write(
        tmp_path,
        base="""
[agent]
nod = "x"
timezone = "Mars/Olympus"
language = "fr"
[exchange]
aud = 5
url = "http://exchange.example"
ca_sha256 = "AB"
kid = "short"
retry_base_s = "soon"
[push]
batch_raw_mb = "8"
workers = 0
[quality]
uscc = "drop"
secrecy_marker = "warn"
[spoon]
""",
    )
    found = faults(path)
    assert found == {
        "agent.nod": ("`node` (did you mean that?)", "an unknown key"),
        "agent.node": ("a value (it has no default)", "nothing"),
        "agent.timezone": (
            "an IANA time zone such as Asia/Shanghai",
            "'Mars/Olympus'",
        ),
        "agent.language": ("'zh' or 'en'", "'fr'"),
        "exchange.aud": ("a valid string", "5"),
        "exchange.url": (
            "an address that begins https://",
            "'http://exchange.example'",
        ),
        "exchange.ca_sha256": ("64 lower hex digits (SHA-256)", "'AB'"),
        "exchange.kid": ("a kid of 43 characters", "'short'"),
        "exchange.retry_base_s": ("a valid number", "'soon'"),
        "push.batch_raw_mb": ("a valid integer", "'8'"),
        "push.workers": ("greater than or equal to 1", "0"),
        "quality.uscc": ("'warn', 'quarantine' or 'halt'", "'drop'"),
        "quality.secrecy_marker": ("'quarantine' or 'halt'", "'warn'"),
        "spoon": ("`spool` (did you mean that?)", "an unknown key"),
    }


def test_the_detail_names_file_and_key_on_one_line_each(tmp_path: Path) -> None:
    """What people see, and what --json gives."""
    path = write(tmp_path, "[log]\nlevel = 5\n[pish]\n")
    with pytest.raises(ConfigInvalid) as caught:
        load(path)
    error = caught.value
    assert error.detail.splitlines() == [
        f"{path}: log.level: expected 'debug', 'info', 'warning' or 'error', got 5",
        f"{path}: pish: expected `push` (did you mean that?), got an unknown key",
    ]
    assert error.exit_code == 78
    body = json.loads(json.dumps(error.as_dict()))
    assert [f["key"] for f in body["faults"]] == ["log.level", "pish"]


@pytest.mark.parametrize("section", ["push", "agent", "sources"])
def test_a_value_in_place_of_a_table_is_a_fault(tmp_path: Path, section: str) -> None:
    """`push = 5` says where and what."""
    base = "" if section == "agent" else MINIMAL
    found = faults(write(tmp_path, base=f"{section} = 5\n{base}"))
    assert found[section][0].startswith(("a table [", "tables ["))


@pytest.mark.parametrize("text", ["node = ", "a = 1\na = 2", "[x", "\t\x00"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, text: str) -> None:
    """With the parser's line."""
    assert faults(write(tmp_path, base=text))[""][0] == "TOML"


@pytest.mark.parametrize("text", ["a = " + "9" * 5000, "a = " + "[" * 20_000])
def test_attack_a_file_that_no_parser_takes_is_a_fault_and_no_crash(
    tmp_path: Path, text: str
) -> None:
    """A number of thousands of digits, lists nested without end."""
    assert faults(write(tmp_path, base=text))[""][0] == "TOML"


def test_a_missing_file_a_folder_and_other_encodings_are_named(tmp_path: Path) -> None:
    """One fault each, never a traceback."""
    missing = tmp_path / "none.toml"
    assert faults(missing)[""] == ("a readable file", "No such file or directory")
    assert faults(tmp_path)[""] == ("a readable file", "Is a directory")
    gbk = tmp_path / "gbk.toml"
    gbk.write_bytes('[agent]\n# 前置机\nnode = "机"'.encode("gb18030"))
    assert faults(gbk)[""][0] == "UTF-8 text"
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * (1024 * 1024 + 1))
    assert faults(huge)[""] == ("at most 1048576 bytes", "more")


def test_a_long_value_is_cut_in_the_message(tmp_path: Path) -> None:
    """No message grows with the file."""
    got = faults(write(tmp_path, f'[log]\nlevel = "{"x" * 500}"\n'))["log.level"][1]
    assert got is not None
    assert len(got) == 64


# --- sources ----------------------------------------------------------------------


def test_a_source_without_known_connectors_is_taken_as_it_is(tmp_path: Path) -> None:
    """The registry judges its keys later."""
    path = write(tmp_path, '[sources.a]\nconnector = "sqlite"\npath = "/x.db"\n')
    assert load(path).source_config("a") == {"path": "/x.db"}


def test_every_fault_of_a_source_is_listed(tmp_path: Path) -> None:
    """Unknown key, wrong type, wrong choice, missing key, unknown connector."""
    path = write(
        tmp_path,
        """
[sources.a]
connector = "postgres"
hostt = "db"
port = "5432"
sslmode = "maybe"
[sources.b]
connector = "sqllite"
[sources.c]
path = "x"
[sources.d]
connector = "postgres"
host = "db"
port = true
[sources]
e = 5
""",
    )
    assert faults(path, specs=SPECS) == {
        "sources.a.hostt": ("`host` (did you mean that?)", "an unknown key"),
        "sources.a.host": ("a value of type string", "nothing"),
        "sources.a.port": ("a value of type integer", "'5432'"),
        "sources.a.sslmode": ("one of disable, verify-full", "'maybe'"),
        "sources.b.connector": ("`sqlite` (did you mean that?)", "'sqllite'"),
        "sources.c.connector": ("a connector's name", "nothing"),
        "sources.d.port": ("a value of type integer", "True"),
        "sources.e": ("a table", "int"),
    }


@pytest.mark.parametrize(
    ("more", "key", "got"),
    [
        ('user = { password = "hunter2" }', "sources.a.user", "a table"),
        ('user = [{ password = "hunter2" }]', "sources.a.user", "a list"),
        ('port = ["hunter2"]', "sources.a.port", "a list"),
        ('sslmode = { password = "hunter2" }', "sources.a.sslmode", "a table"),
        ('pasword = "hunter2"', "sources.a.pasword", "an unknown key"),
        ('login = { password = "hunter2" }', "sources.a.login", "an unknown key"),
        ('password = "hunter2"', "sources.a.password", "the secret itself"),
        ('pin = { fil = "hunter2" }', "sources.a.pin", "dict"),
        ('[log]\nlevel = { token = "hunter2" }', "log.level", "a table"),
        ('[push]\nworkers = ["hunter2"]', "push.workers", "a list"),
        ('[log]\npassword = "hunter2"', "log.password", "an unknown key"),
        ('[login]\npassword = "hunter2"', "login", "an unknown key"),
        (
            '[sources.b]\nconnector = { password = "hunter2" }',
            "sources.b.connector",
            "a table",
        ),
        ('[sources]\nb = "hunter2"', "sources.b", "str"),
    ],
)
def test_no_message_quotes_where_a_secret_may_stand(
    tmp_path: Path, more: str, key: str, got: str
) -> None:
    """Tables, lists and unknown keys are told by name and type, never by value."""
    path = write(tmp_path, f'[sources.a]\nconnector = "postgres"\nhost = "h"\n{more}\n')
    with pytest.raises(ConfigInvalid) as caught:
        load(path, specs=SPECS)
    assert "hunter2" not in json.dumps(caught.value.as_dict())
    assert "hunter2" not in str(caught.value)
    assert {f.key: f.got for f in caught.value.faults}[key] == got


@pytest.mark.parametrize(
    "wrong",
    [
        'push = "hunter2"',
        'push = { a = "hunter2" }',
        'schedule = "hunter2"',
        'schedule = { defaults = "hunter2" }',
    ],
)
def test_what_stands_for_a_table_is_not_quoted(tmp_path: Path, wrong: str) -> None:
    """Its type is enough."""
    with pytest.raises(ConfigInvalid) as caught:
        load(write(tmp_path, base=f"{wrong}\n{MINIMAL}"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("password", ["hunter2", "hunter2@"])
def test_who_logs_in_at_an_address_is_not_quoted(tmp_path: Path, password: str) -> None:
    """An address with a password is refused, and the rest of it is shown."""
    base = MINIMAL.replace("https://", f"https://fep:{password}@")
    assert base != MINIMAL
    got = faults(write(tmp_path, base=base))["exchange.url"][1]
    assert got is not None
    assert "ter2" not in got
    assert got.startswith("'https://...@")


# --- times ------------------------------------------------------------------------


def test_a_resource_says_only_what_differs(tmp_path: Path) -> None:
    """The rest is what all do; off switches a default off."""
    found = load(
        write(
            tmp_path,
            """
[schedule.defaults]
full = "0 2 * * *"
jitter_s = 60
[schedule."101001/000001"]
off_peak = ["20:00-06:00"]
[schedule."101001/000002"]
full = "off"
""",
        )
    )
    plan = Plan("0 2 * * *", "Asia/Shanghai", ("20:00-06:00",), 60)
    assert found.plans("101001/000001") == {"full": plan}
    assert found.plans("101001/000002") == {}
    assert found.plans("101001/000003") == {"full": replace(plan, windows=())}


def test_what_reads_a_whole_table_keeps_to_its_window(tmp_path: Path) -> None:
    """A comparison with the centre, too; changes are few and come at any time."""
    text = """
[schedule.defaults]
reconcile = "0 1 * * 0"
incremental = "every 5m"
off_peak = ["20:00-06:00"]
"""
    found = load(write(tmp_path, text)).plans("101001/000001")
    windows = {kind: plan.windows for kind, plan in found.items()}
    assert windows == {"reconcile": ("20:00-06:00",), "incremental": ()}


def test_every_fault_of_the_times_is_listed(tmp_path: Path) -> None:
    """With the key as it is written, and what is expected."""
    found = faults(
        write(
            tmp_path,
            """
[schedule.defaults]
full = "at night"
off_peak = ["20:00-26:00"]
[schedule."so so"]
full = "off"
[schedule."101001/000001"]
ful = "off"
jitter_s = "a minute"
[schedule."101001/000002"]
incremental = "every 1s"
""",
        )
    )
    assert {key: expected.split(",")[0] for key, (expected, _) in found.items()} == {
        "schedule.defaults.full": "off",
        "schedule.defaults.off_peak.0": "two times of day such as 20:00-06:00",
        "schedule.so so": "defaults",
        "schedule.101001/000001.ful": "`full` (did you mean that?)",
        "schedule.101001/000001.jitter_s": "a valid number",
        "schedule.101001/000002.incremental": "off",
    }


def test_a_source_says_only_what_differs_of_its_limits(tmp_path: Path) -> None:
    """The rest is what all sources have; a worker gets bytes and shares."""
    sources = "".join(
        f'[sources.{name}]\nconnector = "sqlite"\npath = "x"\n' for name in ("a", "b")
    )
    limits = """
[limits.defaults]
rows_per_s = 5000
busy_percent = 80
[limits.b]
rows_per_s = 0
mb_per_s = 2.5
off_peak = ["20:00-06:00"]
off_peak_rows_per_s = 9000
probe_s = 0
"""
    found = load(write(tmp_path, "\n" + sources + limits))
    assert found.pacing("a").usual == Rate(5000)
    assert found.pacing("a").bounds == Bounds(0.8, 5, 60.0)
    b = found.pacing("b")
    assert (b.usual, b.off_peak) == (Rate(0, 2_500_000), Rate(9000))
    assert (b.windows, b.probe_s, b.limited) == (("20:00-06:00",), 0.0, True)


def test_limits_of_no_source_are_a_fault(tmp_path: Path) -> None:
    """They would hold for nobody; the name that was meant is offered."""
    text = '[sources.hr]\nconnector = "sqlite"\npath = "x"\n[limits.hrr]\nprobe_s = 1\n'
    found = faults(write(tmp_path, "\n" + text))
    assert found == {"limits.hrr": ("`hr` (did you mean that?)", "no such source")}


# --- what ships -------------------------------------------------------------------


def test_the_copy_for_people_is_the_one_that_ships() -> None:
    """config/agent.toml equals the package's."""
    assert (ROOT / "config/agent.toml").read_text("utf-8") == template()


def test_the_template_loads_as_it_is(tmp_path: Path) -> None:
    """And all it leaves out is the default."""
    path = tmp_path / "agent.toml"
    path.write_text(template(), "utf-8")
    found = load(path)
    assert found.push == Settings.model_fields["push"].default


def test_every_key_stands_in_the_template_with_its_default() -> None:
    """With the `#` of its keys removed it says what the code says."""
    text = re.sub(r"(?m)^# \[sources\.(.|\n)*?\n\n", "\n", template())
    text = re.sub(r"(?m)^#\n(?=# \[sources)(.|\n)*?\n\n", "\n", text)
    raw = tomllib.loads(re.sub(r"(?m)^# (?=[a-z_0-9]+ = )", "", text))
    for section, field in Settings.model_fields.items():
        model = field.annotation
        if section == "sources":
            continue
        found = raw[section]
        if section == "schedule":
            model, found = Schedule, found["defaults"]
        if section == "limits":
            model, found = SourceLimits, found["defaults"]
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        assert set(found) == set(model.model_fields), section
        for key, inner in model.model_fields.items():
            if not inner.is_required() and (default := inner.default) is not None:
                shown = str(default) if isinstance(default, Path) else default
                shown = list(shown) if isinstance(shown, tuple) else shown
                assert found[key] == shown, (section, key)


def test_every_key_has_a_comment_with_default_and_unit() -> None:
    """In both languages: `默认` and `default`, or `必填` and `required`."""
    keys = [name for m in _sections() for name in m.model_fields]
    lines = template().splitlines()
    for key in keys:
        at = next(
            i
            for i, line in enumerate(lines)
            if line.lstrip("# ").startswith(f"{key} =")
        )
        start = at
        while start and lines[start - 1].startswith("# "):
            if " = " in lines[start - 1] and lines[start - 1][2].islower():
                break
            start -= 1
        comment = "\n".join(lines[start:at])
        assert "默认" in comment or "必填" in comment, key
        assert "default" in comment or "required" in comment, key
        for suffix, unit in (("_s", "秒"), ("_mb", "MB"), ("_days", "天")):
            assert not key.endswith(suffix) or unit in comment, key


def _sections() -> list[type[BaseModel]]:
    found = [f.annotation for f in Settings.model_fields.values()]
    plain = [m for m in found if isinstance(m, type) and issubclass(m, BaseModel)]
    return [*plain, Schedule, SourceLimits]


def test_the_schema_for_editors_is_the_models() -> None:
    """`python -m agent.settings.schema > config/schema/agent.json` makes it."""
    assert (ROOT / "config/schema/agent.json").read_text("utf-8") == schema_text()


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    """A running part never sees them move."""
    found = load(write(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        found.push.workers = 5

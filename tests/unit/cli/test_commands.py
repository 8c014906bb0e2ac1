# SPDX-License-Identifier: Apache-2.0
"""The command line: quick, in two languages, with an exit code and a next step."""

from __future__ import annotations

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import agent.cli
from tests.support.catalog_text import COMPLETE
from tests.support.cli_json import faults, sections
from tests.support.settings_text import write

COMMANDS = [
    m.name
    for m in pkgutil.iter_modules(agent.cli.__path__)
    if not m.ispkg and m.name != "main"
]
HEAVY = {
    "aiohttp",
    "pyarrow",
    "cryptography",
    "joserfc",
    "pydantic",
    "re2",
    "structlog",
}


def test_an_asking_command_loads_nothing_heavy() -> None:
    """It imports neither aiohttp nor Arrow nor cryptography nor pydantic."""
    program = (
        "import sys\n"
        "from agent.cli.main import main\n"
        "for words in ('status', 'pull 1/1', 'pause', 'resume', 'spool ls',"
        " 'policy activate'):\n"
        "    try: main(words.split())\n"
        "    except SystemExit as e: assert e.code == 1, words\n"
        f"print(*sorted(set(sys.modules) & {HEAVY!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "FEP_CONFIG": "/nonexistent/agent.toml"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\n"
    assert done.stderr.count("[no-daemon]") == 6


@pytest.mark.parametrize("lang", ["zh_CN.UTF-8", "en_US.UTF-8"])
def test_every_command_explains_itself_with_examples(lang: str) -> None:
    """Each command, and each below it, has a help text and examples, both languages."""
    program = (
        "import json, typer\n"
        "from agent.cli.main import app\n"
        "def leaves(c):\n"
        "    below = getattr(c, 'commands', None)\n"
        "    if not below: return [(c.name, c.help or '', c.epilog or '')]\n"
        "    return [x for n in below for x in leaves(below[n])]\n"
        "print(json.dumps(leaves(typer.main.get_command(app))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "LC_ALL": lang},
        capture_output=True,
        text=True,
        check=True,
    )
    chinese = lang.startswith("zh")
    for name, text, examples in json.loads(done.stdout):
        assert any("\u4e00" <= c <= "\u9fff" for c in text) is chinese, name
        assert examples.startswith("示例：" if chinese else "Examples:"), name
        assert "fep " in examples, name


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_help_speaks_one_language_and_crops_nothing(lang: str) -> None:
    """Heads and every word of the texts are there, at 40 columns, in one language."""
    program = "from agent.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "--lang", lang, "demo", "--help"],
        env={**os.environ, "COLUMNS": "40"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = "".join(done.stdout.split())
    assert "…" not in said
    assert ("用法：fepdemo[选项]" in said) is (lang == "zh")
    assert ("Usage:fepdemo[OPTIONS]" in said) is (lang == "en")
    last = {"zh": "离线验证审计日志。", "en": "theauditlogcheckedoffline."}[lang]
    assert last in said


def test_wrong_words_are_told_in_the_language_asked_for(fep) -> None:  # type: ignore[no-untyped-def]
    """Title and next step in Chinese, with the call that was wrong."""
    said = fep("--lang", "zh", "pull")
    assert said.err.startswith("错误：命令用法错误 [usage]\n  fep pull: ")
    assert "→ 加 --help" in said.err


def test_every_command_with_json_is_documented() -> None:
    """docs/cli-json.md has a heading for each command that answers in JSON."""
    headings = " ".join(sections())
    for name in set(COMMANDS) - {"run", "sandbox"}:
        assert f"`fep {name}" in headings


def test_an_unknown_command_ends_with_2(fep) -> None:  # type: ignore[no-untyped-def]
    """Usage faults have exit code 2, and a near name is suggested."""
    said = fep("staus")
    assert said.code == 2
    assert "'status'" in said.err


@pytest.mark.parametrize("words", [["status", "--nope"], ["pull"], ["spool", "show"]])
def test_wrong_words_end_with_2(fep, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    """Unknown options and missing arguments have exit code 2."""
    assert fep(*words).code == 2


def test_no_daemon_is_a_sentence_with_the_remedy(fep) -> None:  # type: ignore[no-untyped-def]
    """Exit 1, title, and what to do; no traceback."""
    said = fep("status")
    assert said.code == 1
    assert "error: The agent is not running [no-daemon]" in said.err
    assert "systemctl start fep" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    "words", [["--json", "--lang", "zh", "status"], ["status", "--lang=zh", "--json"]]
)
def test_shared_options_stand_before_or_after(fep, words: list[str]) -> None:  # type: ignore[no-untyped-def]
    """An error is JSON too, with both languages in it."""
    said = fep(*words)
    assert json.loads(said.out)["error"]["remedy"]["zh"].startswith("请执行")
    assert said.code == 1


def test_chinese_is_spoken_when_asked(fep) -> None:  # type: ignore[no-untyped-def]
    """--lang zh wins over an English locale."""
    assert "错误：代理服务未运行" in fep("status", "--lang", "zh").err


def test_a_third_language_is_a_usage_fault(fep) -> None:  # type: ignore[no-untyped-def]
    """--lang takes zh and en."""
    assert fep("version", "--lang", "fr").code == 2


def test_config_check_lists_every_fault(fep, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Settings with two faults: both are named with file and key; exit 78."""
    write(tmp_path, '\n[push]\nworkers = "many"\npollen = 1\n')
    said = fep("config", "check", "--json")
    assert said.code == 78
    keys = [f["key"] for f in json.loads(said.out)["faults"]]
    assert keys == ["push.pollen", "push.workers"]


def test_config_check_looks_into_the_catalog(fep, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A broken resource document is named with its file."""
    (tmp_path / "catalog" / "x.toml").write_text("code = 1\n")
    said = fep("config", "check")
    assert said.code == 78
    assert "x.toml" in said.out


def test_faults_of_settings_do_not_hide_those_of_the_catalog(  # type: ignore[no-untyped-def]
    fep, tmp_path: Path
) -> None:
    """Both are listed at once."""
    write(tmp_path, "\n[push]\npollen = 1\n")
    (tmp_path / "catalog" / "x.toml").write_text("code = 1\n")
    faults = json.loads(fep("config", "check", "--json").out)["faults"]
    assert {Path(f["file"]).name for f in faults} == {"agent.toml", "x.toml"}


def test_gaps_of_a_document_are_warnings(fep, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """They are told with field and article, and the exit code stays 0."""
    document = COMPLETE.replace('abstract = "参保人员的身份和状态。"\n', "")
    source = '\n[sources.rsj]\nconnector = "sqlite"\npath = "x.db"\n'
    write(tmp_path, source)
    (tmp_path / "catalog" / "x.toml").write_text(document)
    said = fep("config", "check")
    assert said.code == 0, said.out
    assert "warning: 101001/000001: abstract: " in said.out


def test_documents_that_contradict_each_other_are_a_warning(  # type: ignore[no-untyped-def]
    fep, tmp_path: Path
) -> None:
    """One shares the column that the other withholds: both are named."""
    kept = COMPLETE.replace("101001/000001", "101001/000002").replace(
        'title = "职务"',
        'title = "职务"\nshare_type = "not_shared"\n'
        'legal_basis = { level = "law", title = "某法", article = "第一条" }',
    )
    write(tmp_path, '\n[sources.rsj]\nconnector = "sqlite"\npath = "x.db"\n')
    (tmp_path / "catalog" / "x.toml").write_text(COMPLETE)
    (tmp_path / "catalog" / "y.toml").write_text(kept)
    said = fep("config", "check")
    assert said.code == 0, said.out
    assert "warning: 101001/000001: binding.columns.title: " in said.out
    assert "which 101001/000002 withholds" in said.out


def test_config_check_is_content_with_good_settings(fep) -> None:  # type: ignore[no-untyped-def]
    """Exit 0 and one sentence."""
    said = fep("config", "check")
    assert (said.code, said.out.count("\n")) == (0, 1), said.out


def test_run_with_broken_settings_ends_with_78(fep, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """systemd does not restart on 78: restarting cannot help."""
    (tmp_path / "agent.toml").unlink()
    said = fep("run")
    assert said.code == 78
    assert "config-invalid" in said.err


def test_run_before_enrolment_ends_with_78(fep) -> None:  # type: ignore[no-untyped-def]
    """It names the missing files and `fep enrol`."""
    said = fep("run")
    assert said.code == 78
    assert "fep enrol" in said.err


def test_verify_before_enrolment_says_what_is_missing(fep, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Without a directory nothing can be judged; exit 78, no verdict."""
    (tmp_path / "x.fepb").touch()
    said = fep("verify", str(tmp_path / "x.fepb"))
    assert said.code == 78
    assert "directory.jws" in said.err


def test_a_file_that_is_not_there_is_a_usage_fault(fep) -> None:  # type: ignore[no-untyped-def]
    """Nothing to judge is no forgery: exit 2, with the name."""
    said = fep("verify", "nothing-here.fepb")
    assert said.code == 2
    assert "nothing-here.fepb: expected a batch file, a receipt" in said.err


def test_a_source_that_is_not_there_is_a_usage_fault(fep) -> None:  # type: ignore[no-untyped-def]
    """discover names the sources there are."""
    said = fep("source", "discover", "nope")
    assert said.code == 2
    assert "nope" in said.err


def test_the_shell_completes_commands() -> None:
    """Bash gets the commands that begin as typed."""
    done = subprocess.run(
        [sys.executable, "-c", "from agent.cli.main import main; main()"],
        env={
            **os.environ,
            "_FEP_COMPLETE": "complete_bash",
            "COMP_WORDS": "fep p",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["pause", "peers", "policy", "pull"], done.stderr


def test_version_needs_no_settings(fep, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Exit 0 without a settings file."""
    (tmp_path / "agent.toml").unlink()
    said = fep("version", "--json")
    assert (said.code, json.loads(said.out)["agent"]) == (0, agent.VERSION)


def test_the_service_drop_in_is_written_and_told(fep, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """fep service --write: the file holds what was told, readable for systemd."""
    to = tmp_path / "fep.service.d" / "settings.conf"
    words = ("--also", "10.9.0.0/24", "--write", "--to", str(to), "--json")
    body = json.loads(fep("service", *words).out)
    assert faults(sections()["`fep service`"], body) == []
    assert body["addresses"] == {
        "exchange.url": ["127.0.0.1"],
        "--also": ["10.9.0.0/24"],
    }
    assert to.read_text("utf-8") == body["text"]
    assert to.stat().st_mode & 0o777 == 0o644


def test_the_service_may_reach_where_the_centre_may_move_to(
    fep, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    """The servers of ceiling.toml: else a move would end at the firewall."""
    path = tmp_path / "ceiling.toml"
    path.write_text('[central]\nendpoints = ["https://127.0.0.2:8443"]\n', "utf-8")
    path.chmod(0o640)
    body = json.loads(fep("service", "--json").out)
    assert body["addresses"] == {
        "exchange.url": ["127.0.0.1"],
        "ceiling.toml: endpoints[0]": ["127.0.0.2"],
    }


def test_the_service_drop_in_is_shown_only(fep, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Without --write nothing is written; a folder that cannot be made is said."""
    to = tmp_path / "x" / "settings.conf"
    assert "IPAddressDeny=any" in fep("service", "--to", str(to)).out
    assert not to.exists()
    (tmp_path / "x").write_text("a file")
    assert fep("service", "--write", "--to", str(to)).code == 2
    assert fep("service", "--also", "10.9.0.1/24").code == 2

# SPDX-License-Identifier: Apache-2.0
"""The conformance suite over a connector: ``python -m connectors.trial MODULE``.

MODULE has a function ``subject(config)`` that gives a
:class:`connectors.conformance.Subject`: the connector and a database to try it on. Its
``config`` comes as JSON through stdin, never through argv: it may hold a password.

On stdout stands a JSON object a line: what will be tried, then each rule before it is
tried and after. A connector that takes the process with it is so known by its rule.
What else is printed to stdout, by a driver or by MODULE, goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from connectors.conformance import RULES, BrokenRule, Subject
from connectors.conformance_health import HEALTH_RULES
from connectors.conformance_increments import INCREMENT_RULES
from connectors.conformance_lookup import LOOKUP_RULES
from connectors.conformance_numbered import NUMBER_RULES
from connectors.conformance_tags import TAG_RULES
from connectors.contract import (
    Limits,
    NumberedSession,
    Session,
    offers_health,
    offers_lookup,
)
from connectors.tags import TaggingSession

Rule = Callable[[Subject], None]
Line = dict[str, Any]

DETAIL = 2000
"""Most characters of what a broken rule says."""


def suites(subject: Subject) -> tuple[list[Rule], dict[str, str]]:
    """The rules that hold for a connector, and why others were left out."""
    rules, left_out = [*RULES], {}
    if offers_lookup(subject.connector):
        rules += LOOKUP_RULES
    else:
        left_out["lookups"] = "the connector has no lookup"
    session = _session_of(subject)
    if subject.begin is not None:
        rules += INCREMENT_RULES
    else:
        left_out["increments"] = "the subject has no begin"
    if subject.begin is not None and isinstance(session, NumberedSession):
        rules += NUMBER_RULES
    else:
        left_out["numbers"] = "the session knows none, or the subject has no begin"
    if isinstance(session, TaggingSession):
        rules += TAG_RULES
    else:
        left_out["tags"] = "the session makes none"
    if offers_health(subject.connector):
        rules += HEALTH_RULES
    else:
        left_out["health"] = "the connector has no health"
    return rules, left_out


def _session_of(subject: Subject) -> Session | None:
    """A session, closed, for what it offers; None if there is none to be had."""
    try:
        with subject.connector.open(subject.config, Limits()) as session:
            return session
    except Exception:  # noqa: BLE001 - the rules will say what is wrong
        return None


def tried(rule: Rule, subject: Subject, clock: Callable[[], float]) -> Line:
    """What became of one rule."""
    began, detail = clock(), None
    try:
        rule(subject)
    except BrokenRule as e:
        detail = str(e)
    except Exception as e:  # noqa: BLE001 - a foreign connector may raise anything
        detail = f"{type(e).__name__}: {e} at {_place(e)}"
    seconds = round(clock() - began, 3)
    detail = None if detail is None else detail[:DETAIL]
    return {"rule": rule.__name__, "seconds": seconds, "detail": detail}


def _place(error: BaseException) -> str:
    where, trace = "?", error.__traceback__
    while trace is not None:
        where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return where


def run(
    subject: Subject, *, clock: Callable[[], float] = time.monotonic
) -> Iterator[Line]:
    """All lines about a subject."""
    rules, left_out = suites(subject)
    yield {
        "connector": subject.connector.name,
        "rules": [
            {"rule": r.__name__, "says": (r.__doc__ or "").partition("\n")[0]}
            for r in rules
        ],
        "left_out": left_out,
    }
    for rule in rules:
        yield {"begun": rule.__name__}
        yield tried(rule, subject, clock)
    yield {"end": True}


def subject_of(module: str, config: Mapping[str, Any]) -> Subject:
    """What a module or a file ``….py`` wants to be tried.

    Raises:
        BrokenRule: it cannot be imported, or has no ``subject``.
    """
    folder, name = Path.cwd(), module
    if module.endswith(".py"):
        path = Path(module).absolute()
        folder, name = path.parent, path.stem
    sys.path.insert(0, str(folder))
    try:
        make = import_module(name).subject
        found = make(config)
    except ImportError as e:
        raise BrokenRule(f"{module} cannot be imported: {e}") from e
    except AttributeError as e:
        raise BrokenRule(f"{module} has no function subject(config): {e}") from e
    if not isinstance(found, Subject):
        raise BrokenRule(f"subject() of {module} gives a {type(found).__name__}")
    return found


def main(argv: list[str]) -> int:
    """Try the module ``argv[1]``; 0 if every rule was tried."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    with out:

        def say(line: Line) -> None:
            print(json.dumps(line, ensure_ascii=False), file=out, flush=True)

        try:
            subject = subject_of(argv[1], json.loads(sys.stdin.read() or "{}"))
        except Exception as e:  # noqa: BLE001 - a foreign module may raise anything
            known = isinstance(e, BrokenRule)
            say({"unfit": str(e) if known else f"{type(e).__name__}: {e}"})
            return 1
        for line in run(subject):
            say(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))

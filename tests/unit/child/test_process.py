# SPDX-License-Identifier: Apache-2.0
"""What a child may see, and what is taken of its stderr.

How a child lives and dies is tried with the workers that it is: see
``pipeline/worker/test_spawn.py`` and ``lookup/query/test_process.py``.
"""

from __future__ import annotations

import pytest

from agent.child.process import clean_environment, last_exception

SET_HERE = {
    "ARROW_DEFAULT_MEMORY_POOL",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "LC_CTYPE",
}
"""What FEP or Python itself sets in a child."""
TRACE = b'Traceback (most recent call last):\n  File "x.py", line 1\n    x\n'


def test_coverage_and_locale_are_the_only_other_variables() -> None:
    """The allow-list is exactly what the docstring says."""
    environ = dict.fromkeys(
        ["LANG", "LC_TIME", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"], "x"
    )

    kept = clean_environment({**environ, "PYTHONPATH": "x", "HOME": "x", "LCX": "x"})

    assert set(kept) - SET_HERE == set(environ)


@pytest.mark.parametrize(
    ("stderr", "name"),
    [
        (TRACE + b"KeyError: 'x'\n", "KeyError"),
        (TRACE + b"psycopg.errors.UndefinedTable: no\nZhangSan: 1\n", "UndefinedTable"),
        (TRACE + b"A: x\n\nDuring:\n\n" + TRACE + b"B\n", "B"),
        (b"ZhangSan: x\n", None),
        (b"terminate called\n", None),
        (b"thread panicked: 110101199003070011\n", None),
        (b"", None),
    ],
)
def test_only_a_class_name_is_taken_from_stderr(
    stderr: bytes, name: str | None
) -> None:
    """Anything that does not look like a class name is ignored."""
    assert last_exception(stderr) == name

# SPDX-License-Identifier: Apache-2.0
"""The argument RESOURCE of commands, completed in the shell."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.cli.common.context import asked
from agent.cli.common.language import say
from agent.errors import FepError


def complete_resource(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Codes and names that the running daemon knows; nothing without one."""
    try:
        body = asked(ctx).client(timeout_s=1.0).get("/v1/status")
    except FepError:
        return []
    found = [(str(r["resource"]), str(r["name"])) for r in body["resources"]]
    return [(code, name) for code, name in found if code.startswith(incomplete)]


One = Annotated[
    str,
    typer.Argument(
        autocompletion=complete_resource,
        help=say("Code of the resource.", "资源代码。"),
    ),
]
"""One resource."""
OneOrAll = Annotated[
    str | None,
    typer.Argument(
        autocompletion=complete_resource,
        help=say("Code of the resource; all without it.", "资源代码；省略则为全部。"),
    ),
]
"""One resource; without it all of them."""

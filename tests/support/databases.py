# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL and MariaDB as the writers of tests see them, by their own drivers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.support.mariadb import Mariadb
from tests.support.postgres import Server
from tests.support.writers import Execute


@dataclass(frozen=True)
class Postgres:
    server: Server
    two_phase: bool = True

    def connect(self) -> tuple[Execute, Callable[[], None]]:
        db = psycopg.connect(
            host=str(self.server.socket_folder),
            port=self.server.port,
            user="postgres",
            dbname=self.server.database,
            autocommit=True,
        )
        return lambda text: db.execute(text.encode()), db.close

    def prepared(self, name: str) -> tuple[str, str, str]:
        return (
            f"prepare transaction '{name}'",
            f"commit prepared '{name}'",
            f"rollback prepared '{name}'",
        )

    def rows(self, text: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(
            host=str(self.server.socket_folder),
            port=self.server.port,
            user="postgres",
            dbname=self.server.database,
        ) as db:
            return db.execute(text.encode()).fetchall()

    def printed_by(self, table: str) -> list[str]:
        """Words for ``compare.py``."""
        return ["postgres", table, "--", *self.server.psql_command()]


@dataclass(frozen=True)
class Maria:
    server: Mariadb
    two_phase: bool = False

    def connect(self) -> tuple[Execute, Callable[[], None]]:
        db = self.server.connect()
        db.autocommit(True)
        cursor = db.cursor()
        return cursor.execute, db.close

    def prepared(self, name: str) -> tuple[str, str, str]:
        raise NotImplementedError

    def rows(self, text: str) -> list[tuple[Any, ...]]:
        return self.server.sql(text)

    def printed_by(self, table: str) -> list[str]:
        """Words for ``compare.py``."""
        program = ["mariadb", "-S", str(self.server.socket), "-u", "root", "town"]
        return ["mariadb", table, "--", *program]

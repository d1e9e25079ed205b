"""The database of a command: the one that it was given, or an embedded PostgreSQL that runs meanwhile."""

from __future__ import annotations

import getpass
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from ..errors import EmbeddedPostgresError
from ..storage import VectorStorage, check_collection
from .console import err
from .options import Collection, Database

__all__ = ("database", "folder_of", "open_storage")


@asynccontextmanager
async def database(where: Database, *, embedded: Path | None = None) -> AsyncGenerator[str]:
    """The DSN of the database that a command uses.

    Args:
        where: the database.
        embedded: the folder of an embedded PostgreSQL to use in any case.
    """
    if embedded is None and where.url:
        yield where.url
        return
    from ..embedded import embedded_postgres

    folder = embedded or folder_of(where)
    # Only a terminal shows it, and rich need not be imported for anything else.
    with err.status(f"starting PostgreSQL in {folder}") if sys.stderr and sys.stderr.isatty() else nullcontext():
        manager = embedded_postgres(folder)
        dsn = await manager.__aenter__()
    try:
        yield dsn
    finally:
        await manager.__aexit__(None, None, None)


@asynccontextmanager
async def open_storage(
    where: Collection,
    dimensions: int | None = None,
    *,
    size: int = 1,
    must_exist: bool = False,
    **options: Any,
) -> AsyncGenerator[VectorStorage]:
    """Open the collection that a command uses; nothing is warmed.

    Args:
        where: the collection and its database.
        dimensions: of the vectors; None for a collection that exists.
        size: the size of the pool.
        must_exist: whether a collection that does not exist is an error at once.
        options: further ones of the storage.
    """
    async with (
        database(where) as dsn,
        VectorStorage(
            dsn,
            where.collection,
            dimensions,
            schema=where.schema,
            size=size,
            warm="never",
            **where.pool_options,
            **options,
        ) as storage,
    ):
        if must_exist:
            await check_collection(storage.pool, where.collection, where.schema)
        yield storage


def folder_of(where: Database) -> Path:
    """The folder of the embedded PostgreSQL that a command uses."""
    return where.data or _make_default_folder()


def _make_default_folder() -> Path:
    """The folder of the embedded PostgreSQL in the user's data folder, which is created if it is missing."""
    from platformdirs import user_data_path

    try:
        folder = user_data_path("preheat", appauthor=False) / "postgres"
    except RuntimeError as error:  # a user without a name, as in a container, and no HOME
        raise EmbeddedPostgresError(f"there is no folder for data ({error}); choose one with --data") from error
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        try:
            user = getpass.getuser()
        except (KeyError, OSError):
            user = "without a name"
        raise EmbeddedPostgresError(
            f"the folder {folder.parent} cannot be made by user {user} ({error.strerror}); "
            "choose another one with --data"
        ) from error
    return folder

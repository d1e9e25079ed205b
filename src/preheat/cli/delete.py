"""`preheat delete`: chunks out of a collection, after a look at how many there are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import typer

from ..storage import Filter, VectorStorage
from ..storage.writing import chosen
from .console import database
from .reading import in_daemon_thread

__all__ = ("Delete", "Deleted")


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted."""

    collection: str
    """The collection's name."""
    deleted: int
    """How many chunks went."""
    declined: bool = False
    """Whether somebody was asked, and said no."""

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {"collection": self.collection, "deleted": self.deleted}


class Delete:
    """One run of the command."""

    def __init__(
        self,
        ids: list[str] | None,
        document: str | None,
        filter: Filter | None,
        collection: str,
        dsn: str | None,
        data: Path | None,
        *,
        schema: str | None = None,
        sure: bool,
    ) -> None:
        self._chosen: dict[str, Any] = {"ids": ids or None, "document": document, "filter": filter}
        chosen(**self._chosen)
        self._collection = collection
        self._dsn = dsn
        self._data = data
        self._schema = schema
        self._sure = sure

    async def run(self) -> Deleted:
        """Count, ask, and delete."""
        name = self._collection
        async with (
            database(self._dsn, self._data) as dsn,
            VectorStorage(dsn, name, schema=self._schema, size=1, warm="never") as storage,
        ):
            there = await self._count(storage)
            if there and not self._sure and not await in_daemon_thread(partial(_confirmed, there, name)):
                return Deleted(name, 0, declined=True)
            return Deleted(name, await storage.delete(**self._chosen) if there else 0)

    async def _count(self, storage: VectorStorage) -> int:
        if self._chosen["ids"]:
            return len(await storage.get(self._chosen["ids"]))
        return await storage.count(document=self._chosen["document"], filter=self._chosen["filter"])


def _confirmed(chunks: int, collection: str) -> bool:
    """In a thread."""
    what = "1 chunk" if chunks == 1 else f"{chunks:,} chunks"
    try:
        return typer.confirm(f"delete {what} from collection {collection}?", err=True)
    except click.Abort:  # nobody is there to answer
        return False

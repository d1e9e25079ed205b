"""`preheat delete`, `clear` and `drop`: what goes out of a collection, after a look at how much there is."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import typer

from ..errors import ArgumentError
from ..storage import Filter, VectorStorage
from ..storage.schema.catalog import check_collection
from ..storage.write.writing import chosen
from .console import database
from .keys import Keys
from .reading import in_daemon_thread

__all__ = ("Delete", "Deleted", "Empty", "YesOption")

YesOption: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True, slots=True)
class Deleted:
    """What was deleted."""

    collection: str
    """The collection's name."""
    deleted: int
    """How many chunks went."""
    declined: bool = False
    """Whether somebody was asked, and said no."""
    dropped: bool = False
    """Whether the collection itself is gone."""

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {"collection": self.collection, "deleted": self.deleted, **({"dropped": True} if self.dropped else {})}


class Delete:
    """One run of `preheat delete`."""

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
            await check_collection(storage.pool, name, self._schema)
            there = await self._count(storage)
            question = f"delete {_counted(there)} from collection {name}?"
            if there and not self._sure and not await in_daemon_thread(partial(_confirmed, question)):
                return Deleted(name, 0, declined=True)
            return Deleted(name, await storage.delete(**self._chosen) if there else 0)

    async def _count(self, storage: VectorStorage) -> int:
        if self._chosen["ids"]:
            return len(await storage.get(self._chosen["ids"]))
        document = self._chosen["document"]
        there = await storage.count(document=document, filter=self._chosen["filter"])
        if not there and document is not None:  # a path that is typed in another way than its key
            self._chosen["document"] = key = Keys().of_path(Path(document))
            there = await storage.count(document=key)
        return there


@dataclass(frozen=True, slots=True)
class Empty:
    """One run of `preheat clear` or `preheat drop`."""

    what: Literal["clear", "drop"]
    collection: str
    dsn: str | None
    data: Path | None
    schema: str | None
    sure: bool

    async def run(self) -> Deleted:
        """Count, ask, and delete all chunks, or the collection itself."""
        name = self.collection
        if not self.sure and not _is_asked():
            raise ArgumentError(
                f"preheat {self.what} asks before it deletes, and nobody is there to answer; add --yes if you are sure"
            )
        async with (
            database(self.dsn, self.data) as dsn,
            VectorStorage(dsn, name, schema=self.schema, size=1, warm="never") as storage,
        ):
            await check_collection(storage.pool, name, self.schema)
            there = await storage.count()
            if self.what == "clear":
                question = f"delete all {_counted(there)} of collection {name}?"
            else:
                question = f"drop collection {name} with its {_counted(there)} and the answers that it keeps?"
            if not self.sure and not await in_daemon_thread(partial(_confirmed, question)):
                return Deleted(name, 0, declined=True)
            if self.what == "clear":
                return Deleted(name, await storage.clear())
            await storage.drop()
            return Deleted(name, there, dropped=True)


def _is_asked() -> bool:
    """Whether there is a terminal to ask on."""
    return sys.stdin is not None and sys.stdin.isatty()


def _counted(chunks: int) -> str:
    return "1 chunk" if chunks == 1 else f"{chunks:,} chunks"


def _confirmed(question: str) -> bool:
    """In a thread."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:  # nobody is there to answer
        return False

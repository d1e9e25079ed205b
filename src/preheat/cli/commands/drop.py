"""`preheat drop`: a collection is dropped with everything in it."""

from __future__ import annotations

from ...errors import CollectionNotFoundError
from ...storage import VectorStorage, check_collection, collections
from ..confirming import Deleted, check_can_ask, confirmed, run_deletion
from ..console import counted
from ..database import open_storage
from ..options import Collection, YesOption

__all__ = ("drop",)


def drop(where: Collection, yes: YesOption = False) -> None:
    """Drop a collection: its chunks, its tables and its stored answers.

    The command shows the number of chunks and asks. The exit code is 1 if the answer is no, and 2 if there is no
    terminal to ask on and no --yes.
    """

    async def work() -> Deleted:
        check_can_ask("drop", yes=yes)
        name = where.collection
        async with open_storage(where) as storage:
            count = await _count(storage, where)
            question = f"drop collection {name} with its {counted(count)} and its stored answers?"
            if not yes and not await confirmed(question):
                return Deleted(name, declined=True)
            await storage.drop()
            return Deleted(name, count, dropped=True)

    run_deletion(where, work)


async def _count(storage: VectorStorage, where: Collection) -> int:
    """The number of chunks; 0 for a collection that is in the list of collections and whose table is gone."""
    try:
        await check_collection(storage.pool, where.collection, where.schema)
    except CollectionNotFoundError:
        listed = await collections(storage.pool, where.schema)
        if where.collection not in [info.name for info in listed]:
            raise
        return 0
    return await storage.count()

"""`preheat drop`: a collection is dropped with everything in it."""

from __future__ import annotations

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
        async with open_storage(where, must_exist=True) as storage:
            count = await storage.count()
            question = f"drop collection {name} with its {counted(count)} and its stored answers?"
            if not yes and not await confirmed(question):
                return Deleted(name, declined=True)
            await storage.drop()
            return Deleted(name, count, dropped=True)

    run_deletion(where, work)

"""`preheat clear`: all chunks of a collection are deleted."""

from __future__ import annotations

from ..confirming import Deleted, check_can_ask, confirmed, run_deletion
from ..console import counted
from ..database import open_storage
from ..options import Collection, YesOption

__all__ = ("clear",)


def clear(where: Collection, yes: YesOption = False) -> None:
    """Delete all chunks of a collection; the collection stays.

    The command shows the number of chunks and asks. The exit code is 1 if the answer is no, and 2 if there is no
    terminal to ask on and no --yes.
    """

    async def work() -> Deleted:
        check_can_ask("clear", yes=yes)
        name = where.collection
        async with open_storage(where, must_exist=True) as storage:
            count = await storage.count()
            if not yes and not await confirmed(f"delete all {counted(count)} of collection {name}?"):
                return Deleted(name, declined=True)
            return Deleted(name, await storage.clear())

    run_deletion(where, work)

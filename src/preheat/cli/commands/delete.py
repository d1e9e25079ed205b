"""`preheat delete`: chunks are deleted by their ids, their document or their metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...storage import VectorStorage, check_delete
from ..confirming import Deleted, check_can_ask, confirmed, run_deletion
from ..console import counted
from ..database import open_storage
from ..files.keys import Keys
from ..options import Collection, YesOption, json_object

__all__ = ("delete",)


def delete(
    where: Collection,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[IDS]...", help="The ids of chunks.")] = None,
    document: Annotated[
        str | None, typer.Option("--document", "-d", help="Delete all chunks of this document.")
    ] = None,
    filter: Annotated[
        str | None, typer.Option(help="""Delete the chunks whose metadata pass, as JSON: '{"lang": "en"}'.""")
    ] = None,
    yes: YesOption = False,
) -> None:
    """Delete chunks by their ids, their document or their metadata.

    The command shows the number of chunks and asks. The exit code is 1 if the answer is no or no chunk was found, and 2
    if there is no terminal to ask on and no --yes.
    """

    async def work() -> Deleted:
        check_can_ask("delete", yes=yes)
        wanted: dict[str, Any] = {
            "ids": ids or None,
            "document": document,
            "filter": None if filter is None else json_object("--filter", filter),
        }
        check_delete(**wanted)
        name = where.collection
        async with open_storage(where, must_exist=True) as storage:
            count = await _count(storage, wanted)
            if count and not yes and not await confirmed(f"delete {counted(count)} from collection {name}?"):
                return Deleted(name, declined=True)
            deleted = await storage.delete(**wanted) if count else 0
            return Deleted(name, deleted, is_found=deleted > 0)

    run_deletion(where, work)


async def _count(storage: VectorStorage, wanted: dict[str, Any]) -> int:
    if wanted["ids"]:
        return len(await storage.get(wanted["ids"]))
    document = wanted["document"]
    count = await storage.count(document=document, filter=wanted["filter"])
    if not count and document is not None:  # a path that is not typed as its key is written
        wanted["document"] = key = Keys().of_path(Path(document))
        count = await storage.count(document=key)
    return count

"""What is in a collection, without a search."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pgvector import Vector

from . import statements
from .encoding import check_texts
from .open_collection import OpenCollection
from .records import Chunk

__all__ = ("Reading",)


class Reading(OpenCollection):
    """What gets chunks by their ids, and counts them."""

    async def get(self, ids: Sequence[str]) -> list[Chunk]:
        """The chunks with these ids, in the order of document and position; those that are not there are left out."""
        return [
            Chunk(
                text=row["text"],
                embedding=Vector.from_text(row["embedding"]).to_list(),
                metadata=json.loads(row["metadata"]),
                document=row["document"],
                position=row["position"],
                id=row["id"],
            )
            for row in await self._fetch(statements.get(self._names), check_texts("ids", ids))
        ]

    async def count(self) -> int:
        """How many chunks are stored."""
        rows = await self._fetch(statements.count(self._names))
        return int(rows[0]["chunks"]) if rows else 0

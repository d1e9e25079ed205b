"""A program that a row freezes or kills: `python -m tests.faults.child TASK BACKEND DSN COLLECTION`.

It prints `now` and waits for a line of its input at the moment in which it is killed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import anyio
from tests.support.models import Hashing

from preheat import Document, ResearchRetriever, VectorStorage, reembed

TEXTS = [f"document {number}" for number in range(9)]


def stop(*_: object) -> None:
    print("now", flush=True)
    sys.stdin.readline()


class Model(Hashing):
    """A model that stops before its third batch."""

    batches = 0

    async def embed(self, texts: Sequence[str]) -> Any:
        self.batches += 1
        if self.batches == 3:
            stop()
        return await super().embed(texts)


async def ingest(storage: VectorStorage, model: Hashing) -> None:
    documents = [Document(text, text) for text in TEXTS]
    await ResearchRetriever(storage, model).ingest(documents, batch_size=2)


async def embed_again(storage: VectorStorage, model: Hashing) -> None:
    await reembed(storage, model, batch_size=2)


async def search(storage: VectorStorage) -> None:
    assert await storage.warm_pool()
    stop()
    found = await storage.search([1.0, 0.0, 0.0], k=100)
    print(len(found), storage.warm_report.hot if storage.warm_report else 0, flush=True)


async def main(task: str, dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, size=3) as storage:
        if task == "ingest":
            await ingest(storage, Model("model", 3))
        elif task == "reembed":
            await embed_again(storage, Model("new", 4))
        elif task == "index":
            await storage.create_index(progress=stop)
        elif task == "create":
            await storage.create()
        else:
            await search(storage)


if __name__ == "__main__":
    task, backend, *given = sys.argv[1:]
    anyio.run(main, task, *given, backend=backend)

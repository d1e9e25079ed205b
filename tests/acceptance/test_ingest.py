"""An ingest that is killed by the operating system, or cancelled at any point: the same again completes it.

The process that is killed is held up by the test, not by a clock: it stops in the middle of its work until it is dead.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from hashlib import md5
from typing import Any

import anyio
import numpy as np
import pytest
from tests.support.server import Server
from tests.support.tiers import slow_except

from preheat import Document, IngestReport, ResearchRetriever, VectorStorage
from preheat.storage.write import loading
from preheat.testing import cancel_everywhere

DOCUMENTS = 50
PARAGRAPHS = 100
BATCH = 300
CHARACTERS = 60


class Hashes:
    """A cheap model: what a text says decides its vector, wherever it runs."""

    name = "hashes"
    dimensions = 4

    def __init__(self) -> None:
        self.texts = 0

    def embed(self, texts: Sequence[str]) -> Any:
        self.texts += len(texts)
        return np.array([list(md5(text.encode()).digest()[:4]) for text in texts], dtype=np.float32)


def documents(number: int = DOCUMENTS, paragraphs: int = PARAGRAPHS) -> Iterator[Document]:
    for n in range(number):
        text = "\n\n".join(f"document {n} and its paragraph {p} of some length" for p in range(paragraphs))
        yield Document(f"{n:03}.txt", text, {"n": n})


async def ingest(storage: VectorStorage, model: Hashes | None = None, source: Any = None, **options: Any) -> Any:
    retriever = ResearchRetriever(storage, model or Hashes())
    given = {"batch_size": BATCH, "chunk_size": CHARACTERS, **options}
    return await retriever.ingest(documents() if source is None else source, **given)


def child(dsn: str, collection: str, backend: str, stop: str) -> None:
    """In a process of its own: ingest until a mark, say so, and wait to be killed."""
    import anyio

    batches = 0

    class Stopping(Hashes):
        def embed(self, texts: Sequence[str]) -> Any:
            nonlocal batches
            batches += 1
            if stop == "embed" and batches == 8:
                halt()
            return super().embed(texts)

    def halt() -> None:
        print("now", flush=True)
        signal.pause()

    def progress(report: Any) -> None:
        if stop == "write" and report.documents >= DOCUMENTS // 2:
            halt()
        if stop == "index" and report.index is not None and report.index.step == "the index of the vectors":
            halt()

    async def main() -> None:
        async with VectorStorage(dsn, collection, Hashes.dimensions, size=3, warm="never") as storage:
            if stop == "copy":  # before the last statement of the third transaction that writes
                hold_the_copy()
            await ingest(storage, Stopping(), progress=progress)

    def hold_the_copy() -> None:
        copies, copy = 0, loading.copy

        async def held(*args: Any, **more: Any) -> None:
            nonlocal copies
            copies += 1
            await copy(*args, **more)
            if copies == 3:
                halt()  # all rows are with the server, and nothing is committed

        loading.copy = held

    anyio.run(main, backend=backend)


def rows(server: Server, collection: str) -> dict[str, tuple[Any, ...]]:
    table = f'"preheat_{collection}"'
    found = server.sql(
        f"SELECT id, document, position, text, metadata::text, embedding::text, ctid::text, xmin::text FROM {table}",
        "tests",
    )
    return {row["id"]: tuple(row.values())[1:] for row in found}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize("stop", slow_except(("copy",), ("embed", "write", "copy", "index")))
def test_an_ingest_that_is_killed_is_completed_by_the_same_again(
    server: Server, dsn: str, collection: str, backend: str, stop: str
) -> None:
    """What one undisturbed run gives is what there is after a kill and another run; what was there was not touched."""

    async def run(name: str, model: Hashes, *, index: bool) -> IngestReport:
        async with VectorStorage(dsn, name, 4, index=index, warm="never") as storage:
            report = await ingest(storage, model)
            assert await storage.lacks_index() == (not index)
            return report

    anyio.run(partial(run, f"{collection}_whole", Hashes(), index=False), backend=backend)
    whole = rows(server, f"{collection}_whole")
    assert len(whole) == DOCUMENTS * PARAGRAPHS

    code = f"from tests.acceptance.test_ingest import child; child({dsn!r}, {collection!r}, {backend!r}, {stop!r})"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "now\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
    before = rows(server, collection)
    assert set(Counter(row[0] for row in before.values()).values()) == {PARAGRAPHS}
    assert (len(before) < len(whole)) == (stop != "index")

    model = Hashes()
    report = anyio.run(partial(run, collection, model, index=False), backend=backend)
    after = rows(server, collection)
    assert {id: row[:5] for id, row in after.items()} == {id: row[:5] for id, row in whole.items()}
    assert {id: after[id] for id in before} == before
    assert model.texts == report.added == len(whole) - len(before)
    assert report.unchanged == len(before)

    model = Hashes()
    report = anyio.run(partial(run, collection, model, index=True), backend=backend)
    assert (report.unchanged, model.texts) == (len(whole), 0)


@pytest.mark.slow
async def test_an_ingest_cancelled_anywhere_leaves_whole_documents_and_is_completed(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 4, size=2) as storage:
        sizes: set[int] = set()

        async def cancelled() -> None:
            await storage.delete(document="000.txt")
            try:
                await ingest(storage, source=list(documents(2, 3)), batch_size=3)
            finally:
                with anyio.CancelScope(shield=True):
                    sizes.update([await storage.count(document=f"{n:03}.txt") for n in range(2)])

        await cancelled()
        sweep = await cancel_everywhere(cancelled)
        assert sweep.points > 20
        assert sizes == {0, 3}
        assert (await ingest(storage, source=documents(2, 3))).chunks == 6
        assert await storage.count() == 6

"""The answer to a similar question among many: with the index that they get, and compared one by one."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

import numpy as np
from tests.support.server import Server

from benchmarks.data.collection import DIMENSIONS
from benchmarks.report.records import Series
from benchmarks.runner.server_cpu import ServerCPU
from benchmarks.runner.timing import run
from preheat import VectorStorage
from preheat.storage.encoding.vectors import vector_text

NAME = "near_answers"
BATCH = 1000
QUESTIONS = 200
THRESHOLD = 0.95
NOISE = 0.2
"""How far a similar question is from one that was answered: a cosine of about 0.98, above the threshold."""
CLUSTERS = 500

INSERT = """
INSERT INTO {table} (key, scope, embedder, question, embedding, answer, created_at)
SELECT key, '', 'm', key, embedding::vector, '"an answer"', now()
FROM unnest($1::text[], $2::text[]) AS t (key, embedding)
ON CONFLICT DO NOTHING
"""


def measure(server: Server, *, sizes: tuple[int, ...]) -> Iterator[Series]:
    """One number of answers after the other, all in one scope."""
    for answers in sizes:
        for who, (cpu, found) in run("asyncio", _measured, server, answers).items():
            yield Series("near answers", who, "server CPU", "ms", tuple(cpu), at=answers)
            yield Series("near answers", who, "found", "share", (fmean(found),), at=answers)


async def _measured(server: Server, answers: int) -> dict[str, tuple[list[float], list[float]]]:
    random = np.random.default_rng(6)
    centers = random.standard_normal((CLUSTERS, DIMENSIONS), dtype=np.float32)
    around = random.standard_normal((answers, DIMENSIONS), dtype=np.float32)
    vectors = centers[random.integers(CLUSTERS, size=answers)] + 0.5 * around
    asked = random.integers(answers, size=QUESTIONS)
    noise = random.standard_normal((QUESTIONS, DIMENSIONS), dtype=np.float32)
    questions = vectors[asked] + NOISE * noise
    taken: dict[str, tuple[list[float], list[float]]] = {}
    async with VectorStorage(server.dsn(), NAME, DIMENSIONS, index=False, warm="never", size=1) as storage:
        table = storage.answer_table
        await table.create()
        name = storage.executor.collection.identifiers.answers
        for start in range(0, answers, BATCH):
            batch = range(start, min(start + BATCH, answers))
            texts = [vector_text(vectors[n]) for n in batch]
            await storage.pool.fetch(INSERT.format(table=name), [str(n) for n in batch], texts)
        async with storage.get_connection() as connection:
            await connection.execute(f"VACUUM ANALYZE {name}")
        meter = ServerCPU(server)
        for who in ("one by one", "preheat, by the index"):
            if who != "one by one":
                await table.create_index(DIMENSIONS)
            cpu, found = taken.setdefault(who, ([], []))
            for number, question in zip(asked, questions, strict=True):
                await table.nearest(question, "", "m", THRESHOLD, 1)
                meter.restart()
                answer = await table.nearest(question, "", "m", THRESHOLD, 1)
                cpu.append(meter.milliseconds())
                found.append(float([one.question for one in answer] == [str(number)]))
        await storage.pool.fetch(f"DROP TABLE {name}")
    return taken

"""A database with a stored document, for the services to ask."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest
from tests.support.server import Server

from preheat import ResearchRetriever, VectorStorage, WordLlamaEmbedder

QUESTION = "How many days of holiday do I have?"
TEXT = "Everybody has thirty days of holiday in a year."


@pytest.fixture(scope="module")
def handbook(server: Server) -> Iterator[tuple[str, str]]:
    """The name and the DSN of a database with a stored document."""
    name = "handbook"
    server.sql(f"CREATE DATABASE {name}")
    server.sql("CREATE EXTENSION vector", name)
    dsn = server.dsn(name)

    async def store() -> None:
        embedder = WordLlamaEmbedder()
        async with VectorStorage(dsn, name, embedder.dimensions) as storage:
            await ResearchRetriever(storage, embedder).add("holidays.md", TEXT)

    anyio.run(store)
    yield name, dsn
    server.sql(f"DROP DATABASE {name} WITH (FORCE)")

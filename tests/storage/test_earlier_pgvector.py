"""A pgvector that lacks a feature: the error names the version that has it. `just versions` meets real ones."""

from __future__ import annotations

import pytest

from preheat import DatabaseError, ExtensionError, VectorStorage
from preheat.storage.identifiers import Identifiers
from preheat.storage.schema.diagnosis import missing_error


class Catalog:
    """Answers as the catalog of a database with pgvector 0.6.2 does."""

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        if "AS has_table" not in query:
            return [{}]
        columns = ["id", "document", "position", "text", "metadata", "embedding", "words"]
        found = {"database": "library", "extension": "0.6.2", "has_table": True, "registry": True, "columns": columns}
        return [{**dict.fromkeys(("unusable", "renamed"), None), "elsewhere": [], "has_schema": True, **found}]


@pytest.mark.parametrize(
    ("said", "sqlstate", "needed"),
    [
        ('type "halfvec" does not exist', "42704", "pgvector 0.7 or later"),
        ("function l2_normalize(vector) does not exist", "42883", "pgvector 0.7 or later"),
        ('invalid configuration parameter name "hnsw.iterative_scan"', "42602", "pgvector 0.8 or later"),
        ("function of_the_future(vector) does not exist", "42883", "a later version of pgvector"),
    ],
)
async def test_the_error_names_the_version_that_is_needed(said: str, sqlstate: str, needed: str) -> None:
    error = DatabaseError(said, "", sqlstate=sqlstate)

    told = await missing_error(Catalog(), identifiers=Identifiers("papers"), error=error)

    assert isinstance(told, ExtensionError)
    assert told.sqlstate == sqlstate
    assert str(told) == (
        f"this needs {needed}, and the database 'library' has pgvector 0.6.2 ({said}); "
        "install it on the server, and let an administrator run: ALTER EXTENSION vector UPDATE"
    )


async def test_an_unknown_setting_is_not_about_pgvector() -> None:
    error = DatabaseError('invalid configuration parameter name "a b"', "", sqlstate="42602")

    assert await missing_error(Catalog(), identifiers=Identifiers("papers"), error=error) is error


async def test_a_setting_that_the_server_does_not_know_is_told(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 2, warm="never") as storage:
        await storage.create()
        with pytest.raises(ExtensionError, match="this needs a later version of pgvector, and the database 'tests'"):
            await storage.executor.fetch(lambda _: "SELECT of_the_future('[1]'::vector)")

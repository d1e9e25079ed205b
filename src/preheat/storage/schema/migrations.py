"""The history of a collection's tables: numbered steps, each of which can be run again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..identifiers import Identifiers
from ..models import VectorType
from . import sql


@dataclass(frozen=True, slots=True)
class Migration:
    """One step, run in a transaction under the lock of the schema."""

    number: int
    title: str
    statements: Callable[[Identifiers, int, VectorType, str], tuple[str, ...]]
    """Its statements for a collection with so many dimensions, this type of vectors and this language."""
    is_done: Callable[[Identifiers], str] | None = None
    """A query with one row if the step has been done for all collections of the schema: then a role that does not own
    the changed table can go on."""


def _collections_and_chunks(
    identifiers: Identifiers, dimensions: int, type: VectorType, _language: str
) -> tuple[str, ...]:
    return (sql.create_registry(identifiers), *sql.create_collection(identifiers, dimensions, type))


def _described_collections(
    identifiers: Identifiers, _dimensions: int, _type: VectorType, _language: str
) -> tuple[str, ...]:
    return (sql.describe_registry(identifiers),)


def _words_in_any_form(identifiers: Identifiers, _dimensions: int, _type: VectorType, language: str) -> tuple[str, ...]:
    return (sql.renew_words(identifiers, language),)


def _embedded_later(identifiers: Identifiers, _dimensions: int, _type: VectorType, _language: str) -> tuple[str, ...]:
    return (sql.allow_no_embedding(identifiers),)


def _prefixes_of_documents(
    identifiers: Identifiers, _dimensions: int, _type: VectorType, _language: str
) -> tuple[str, ...]:
    return (sql.index_prefixes(identifiers),)


MIGRATIONS = (
    Migration(1, "collections and their chunks", _collections_and_chunks),
    Migration(2, "their types, languages and versions", _described_collections, sql.is_described),
    Migration(3, "words that are found in any form", _words_in_any_form),
    Migration(4, "chunks that are embedded later", _embedded_later),
    Migration(5, "prefixes of documents that an index serves", _prefixes_of_documents),
)
"""All steps, in order. They create a new collection, and those that an earlier one lacks bring it up to date."""

LATEST = MIGRATIONS[-1].number
"""The number of the last one."""

NEEDED = 2
"""The number of the last step that is required for writing; later steps are improvements."""

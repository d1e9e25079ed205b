"""Every SQL text that makes, changes or lists tables, as pure functions of their names.

Definitions have no parameters in SQL; what goes into one is quoted.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ArgumentError
from ..identifiers import Names, literal, quoted
from ..models import Metric, VectorType
from ..search.text_query import INDEXED, separated_sql

__all__ = (
    "HNSW",
    "analyze",
    "claim_embedder",
    "collection_row",
    "collections",
    "create_collection",
    "create_extension",
    "create_indexes",
    "create_registry",
    "described_collection",
    "drop_collection",
    "forget_collection",
    "has_extension",
    "has_registry",
    "is_described",
    "is_of_version",
    "languages",
    "lock_schema",
    "made_of_collection",
    "number_of_table",
    "origin",
    "register_collection",
    "unregister_collection",
)

RENEWED_AT_ONCE = 64 * 1024 * 1024
"""Bytes of a table, without its indexes, whose words are written anew as soon as something is stored."""


@dataclass(frozen=True, slots=True)
class HNSW:
    """How the index of a collection's vectors is built; see https://github.com/pgvector/pgvector#hnsw.

    Raises:
        ArgumentError: if a number is outside what pgvector takes.
    """

    m: int = 16
    """How many neighbors each vector has in a layer, 2 to 100: more find better, and take more room."""
    ef_construction: int = 64
    """How many candidates are looked at for them, 4 to 1,000 and at least twice `m`: more find better, built slower."""

    def __post_init__(self) -> None:
        if not 2 <= self.m <= 100:
            raise ArgumentError(f"m is {self.m}; give a number from 2 to 100")
        if not max(4, 2 * self.m) <= self.ef_construction <= 1000:
            raise ArgumentError(
                f"ef_construction is {self.ef_construction}; give a number from {max(4, 2 * self.m)}, twice m, to 1000"
            )


def create_schema(schema: str) -> str:
    """A schema for the tables."""
    return f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}"


def has_schema() -> str:
    """One row if there is a schema called `$1`."""
    return "SELECT FROM pg_namespace WHERE nspname = $1::text"


def has_extension() -> str:
    """One row if pgvector is in this database: the schema it is in, and whether that is on the search path."""
    return (
        "SELECT nspname AS schema, nspname = ANY(current_schemas(true)) AS visible "
        "FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace WHERE extname = 'vector'"
    )


def create_extension(schema: str | None = None) -> str:
    """Add pgvector to this database, to a schema or to the first of the search path."""
    return "CREATE EXTENSION IF NOT EXISTS vector" + ("" if schema is None else f" SCHEMA {quoted(schema)}")


def lock_schema() -> str:
    """Let one transaction at a time make tables; held until it ends."""
    return "SELECT pg_advisory_xact_lock(hashtextextended('preheat schema', 0))"


def languages() -> str:
    """The names of the server's configurations for full text."""
    return (
        "SELECT cfgname::text AS language FROM pg_ts_config WHERE pg_ts_config_is_visible(oid) ORDER BY cfgname <> "
        "'english', cfgname"
    )


# The registry


def create_registry(names: Names) -> str:
    """The table of collections, as it was at first."""
    return (
        f"CREATE TABLE IF NOT EXISTS {names.registry} ("
        "name text PRIMARY KEY, "
        "dimensions integer NOT NULL, "
        "metric text NOT NULL, "
        "embedder text, "
        "created_at timestamptz NOT NULL DEFAULT now())"
    )


def describe_registry(names: Names) -> str:
    """What it came to say of a collection as well: how its vectors are stored, the language of its texts, and the
    number of the latest migration that it has been through."""
    return (
        f"ALTER TABLE {names.registry} "
        "ADD COLUMN IF NOT EXISTS type text NOT NULL DEFAULT 'vector', "
        "ADD COLUMN IF NOT EXISTS language text NOT NULL DEFAULT 'english', "
        "ADD COLUMN IF NOT EXISTS version integer NOT NULL DEFAULT 1"
    )


def is_described(names: Names) -> str:
    """One row if the table of collections says all that."""
    column = f"attrelid = to_regclass({literal(names.registry)}) AND attname = 'version' AND NOT attisdropped"
    return f"SELECT FROM pg_attribute WHERE {column}"


def has_registry(names: Names) -> str:
    """One row, true if there is a table of collections."""
    return f"SELECT to_regclass({literal(names.registry)}) IS NOT NULL AS there"


def _has_table(names: Names) -> str:
    """Nobody has dropped it by hand."""
    return f"{names.of('name')} IS NOT NULL"


def collection_row(names: Names) -> str:
    """What any registry says of one collection, if its table is there too: `$1` its name."""
    what = "dimensions, metric, embedder"
    return f"SELECT {what} FROM {names.registry} WHERE name = $1::text AND {_has_table(names)}"


def described_collection(names: Names) -> str:
    """All that the registry says of one collection, as JSON, whatever columns it has, and the number of its table:
    `$1` its name."""
    what = f"row_to_json(registered)::text AS described, {names.of('name')}::oid AS number"
    return f"SELECT {what} FROM {names.registry} AS registered WHERE name = $1::text AND {_has_table(names)}"


_VERSION = "coalesce(to_jsonb(registered) ->> 'version', '1')"
"""The number of the latest migration that a collection has been through. Its column came with the second."""


def origin(names: Names, name: str | None = None) -> str:
    """A column for what a collection is: the number of the latest migration that it has been through, its metric and
    its model, with a space between; null if the list of collections has none called `name`.

    It rides along in rows of the collection, so that it is known without a round trip of its own.
    """
    what = f"{_VERSION} || ' ' || metric || ' ' || coalesce(embedder, '')"
    of = literal(names.collection) if name is None else name
    return f"(SELECT {what} FROM {names.registry} AS registered WHERE name = {of}) AS origin"


def is_of_version(names: Names, latest: int) -> str:
    """A condition: no later migration than `latest` has been at the collection."""
    version = f"SELECT {_VERSION}::integer FROM {names.registry} AS registered"
    return f"coalesce(({version} WHERE name = {literal(names.collection)}), 1) <= {int(latest)}"


def number_of_table(names: Names) -> str:
    """One row: the number of the collection's table, null if it has none."""
    return f"SELECT to_regclass({literal(names.table)})::oid AS number"


def forget_collection(names: Names) -> str:
    """Strike a collection whose table is gone from the registry: `$1` its name."""
    return f"DELETE FROM {names.registry} WHERE name = $1::text AND NOT {_has_table(names)}"


def register_collection(names: Names) -> str:
    """Enter a collection: `$1` its name, `$2` dimensions, `$3` metric, `$4` the model's name or null, `$5` the type of
    its vectors, `$6` its language."""
    return (
        f"INSERT INTO {names.registry} (name, dimensions, metric, embedder, type, language) "
        "VALUES ($1::text, $2::integer, $3::text, $4::text, $5::text, $6::text) ON CONFLICT (name) DO NOTHING"
    )


def claim_embedder(names: Names) -> str:
    """Give a collection without a known model one: `$1` its name, `$2` the model's. Answers with its model."""
    return (
        f"UPDATE {names.registry} SET embedder = coalesce(embedder, $2::text) WHERE name = $1::text RETURNING embedder"
    )


def set_version(names: Names) -> str:
    """Note that a collection has been through a migration: `$1` its name, `$2` the migration's number; not if it has
    been through a later one."""
    return f"UPDATE {names.registry} SET version = greatest(version, $2::integer) WHERE name = $1::text"


def collections(names: Names) -> str:
    """All collections, with the room that they take."""
    return (
        "SELECT name, dimensions, metric, embedder, created_at, "
        f"pg_total_relation_size({names.of('name')}) AS bytes "
        f"FROM {names.registry} WHERE {_has_table(names)} ORDER BY name"
    )


# One collection


def create_collection(names: Names, dimensions: int, type: VectorType) -> tuple[str, ...]:
    """The table of a collection, and its indexes but three."""
    return (
        f"CREATE TABLE IF NOT EXISTS {names.table} ("
        f"id text CONSTRAINT {names.index('id')} PRIMARY KEY, "
        f"document text NOT NULL, "
        f"position integer NOT NULL, "
        f"text text NOT NULL, "
        f"metadata jsonb NOT NULL, "
        f"embedding {names.type(type)}({int(dimensions)}) NOT NULL)",
        f"CREATE INDEX IF NOT EXISTS {names.index('document')} ON {names.table} (document, position)",
    )


def create_indexes(names: Names, metric: Metric, type: VectorType, language: str, hnsw: HNSW) -> tuple[str, ...]:
    """What makes searching quick and a bulk load slow: the words of the texts, and the indexes of these, of the
    metadata and of the vectors.

    The words come first, as they take the table to be written anew. The index of the metadata serves
    `metadata @> ...`, which is what equality in a filter is written as.
    """
    name = names.table
    build = f"m = {int(hnsw.m)}, ef_construction = {int(hnsw.ef_construction)}"
    return (
        _block(f"IF {has_old_words(names)} THEN {_drop_words(names)} END IF; {_add_words(names, language)}"),
        create_words_index(names),
        f"CREATE INDEX IF NOT EXISTS {names.index('metadata')} ON {name} USING gin (metadata jsonb_path_ops)",
        f"CREATE INDEX IF NOT EXISTS {names.index('embedding')} ON {name} "
        f"USING hnsw (embedding {names.operator_class(metric, type)}) WITH ({build})",
    )


def renew_words(names: Names, language: str) -> str:
    """Write the words of a table anew that were written in the forms that its texts have, with their index: unless
    the table is so large that whoever wants to use it meanwhile would wait for long."""
    renewed = f"{_drop_words(names)} {_add_words(names, language)} {create_words_index(names)};"
    small = f"pg_table_size({literal(names.table)}::regclass) <= {RENEWED_AT_ONCE}"
    return _block(f"IF {has_old_words(names)} THEN IF {small} THEN {renewed} END IF; END IF;")


def create_words_index(names: Names) -> str:
    """The index of the words."""
    return f"CREATE INDEX IF NOT EXISTS {names.index('words')} ON {names.table} USING gin (words)"


def has_old_words(names: Names) -> str:
    """SQL for whether a table has words that were written in the forms that its texts have."""
    return (
        "EXISTS (SELECT FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum "
        f"WHERE adrelid = to_regclass({literal(names.table)}) AND attname = 'words' "
        f"AND pg_get_expr(adbin, adrelid) NOT LIKE '%(?<=[0-9])%' AND NOT {_WIDE})"
    )


_WIDE = "(getdatabaseencoding() <> 'UTF8' AND pg_encoding_max_length(pg_char_to_encoding(getdatabaseencoding())) > 1)"
"""Whether the database has an encoding in which PostgreSQL does not normalize what is not ASCII."""


def _add_words(names: Names, language: str) -> str:
    """The words of the texts as a column, which the server keeps right."""

    def add(text: str) -> str:
        words = f"to_tsvector({literal(language)}::regconfig, {text})"
        return f"ALTER TABLE {names.table} ADD COLUMN IF NOT EXISTS words tsvector GENERATED ALWAYS AS ({words}) STORED"

    return f"IF {_WIDE} THEN {add(f'left(text, {INDEXED})')}; ELSE {add(separated_sql('text'))}; END IF;"


def _drop_words(names: Names) -> str:
    return f"ALTER TABLE {names.table} DROP COLUMN words;"


def _block(statements: str) -> str:
    """Statements that depend on what there is, as one."""
    tag = "$words$"
    while tag in statements:
        tag = f"{tag[:-1]}_$"
    return f"DO {tag} BEGIN {statements} END {tag}"


def analyze(names: Names) -> str:
    """Let the planner know how many rows there are, and what is in their metadata."""
    return f"ANALYZE {names.table}"


def drop_collection(names: Names) -> str:
    """Drop a collection's tables: its chunks, those of another model that was to take its place, and its answers."""
    return f"DROP TABLE IF EXISTS {names.table}, {names.successor.table}, {names.answers}"


def unregister_collection(names: Names) -> str:
    """Strike a collection from the registry: `$1` its name."""
    return f"DELETE FROM {names.registry} WHERE name = $1::text"


def made_of_collection(names: Names) -> str:
    """One row: whether the collection has a table, and whether there is a registry."""
    return (
        f"SELECT to_regclass({literal(names.table)}) IS NOT NULL AS chunks, "
        f"to_regclass({literal(names.registry)}) IS NOT NULL AS registry"
    )

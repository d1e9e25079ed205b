"""SQL that creates, changes and lists tables, as pure functions of identifiers.

Definitions have no parameters in SQL; values in them are quoted.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import ArgumentError
from ..identifiers import Identifiers, literal, quoted, sql_text
from ..models import Metric, VectorType
from ..text_query import INDEXED, separated_sql

RENEWED_AT_ONCE = 64 * 1024 * 1024
"""Bytes of a table, without its indexes, up to which its column of words is replaced when something is stored."""

VERSIONS = """
SELECT
  current_setting('server_version') AS server,
  (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS extension
"""
"""The versions of the server and of pgvector; null if the extension is not installed in the database."""


@dataclass(frozen=True, slots=True)
class HNSW:
    """How the HNSW index of a collection's vectors is built; see https://github.com/pgvector/pgvector#hnsw.

    Raises:
        ArgumentError: if a number is outside the range that pgvector accepts.
    """

    m: int = 16
    """Neighbors of each vector in a layer, 2 to 100: more improve recall and take more space."""
    ef_construction: int = 64
    """Candidates for these neighbors, 4 to 1,000 and at least twice `m`: more improve recall and take longer."""

    def __post_init__(self) -> None:
        if not 2 <= self.m <= 100:
            raise ArgumentError(f"m is {self.m}; give a number from 2 to 100")
        if not max(4, 2 * self.m) <= self.ef_construction <= 1000:
            raise ArgumentError(
                f"ef_construction is {self.ef_construction}; give a number from {max(4, 2 * self.m)}, twice m, to 1000"
            )


def create_schema(schema: str) -> str:
    """Create a schema for the tables."""
    return f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}"


def has_schema() -> str:
    """One row if there is a schema called `$1`."""
    return "SELECT FROM pg_namespace WHERE nspname = $1::text"


def has_extension() -> str:
    """One row if pgvector is in this database: its schema, and whether the search path has that."""
    return sql_text("""
        SELECT nspname AS schema, nspname = ANY(current_schemas(true)) AS visible
        FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
        WHERE extname = 'vector'
        """)


def create_extension(schema: str | None = None) -> str:
    """Add pgvector to this database, in a schema or in the first of the search path."""
    return "CREATE EXTENSION IF NOT EXISTS vector" + ("" if schema is None else f" SCHEMA {quoted(schema)}")


def lock_schema() -> str:
    """Let one transaction at a time create tables; held until it ends."""
    return "SELECT pg_advisory_xact_lock(hashtextextended('preheat schema', 0))"


def languages() -> str:
    """The names of the server's configurations for full text."""
    return sql_text("""
        SELECT cfgname::text AS language
        FROM pg_ts_config
        WHERE pg_ts_config_is_visible(oid)
        ORDER BY cfgname <> 'english', cfgname
        """)


# The registry


def create_registry(identifiers: Identifiers) -> str:
    """The table of collections, with the columns of its first version."""
    return sql_text(f"""
        CREATE TABLE IF NOT EXISTS {identifiers.registry} (
          name text PRIMARY KEY,
          dimensions integer NOT NULL,
          metric text NOT NULL,
          embedder text,
          created_at timestamptz NOT NULL DEFAULT now()
        )
        """)


def describe_registry(identifiers: Identifiers) -> str:
    """The columns of its second version: the type of a collection's vectors, the language of its texts, and the number
    of the latest migration that it has been through."""
    return sql_text(f"""
        ALTER TABLE {identifiers.registry}
          ADD COLUMN IF NOT EXISTS type text NOT NULL DEFAULT 'vector',
          ADD COLUMN IF NOT EXISTS language text NOT NULL DEFAULT 'english',
          ADD COLUMN IF NOT EXISTS version integer NOT NULL DEFAULT 1
        """)


def is_described(identifiers: Identifiers) -> str:
    """One row if the table of collections has the columns of its second version."""
    return sql_text(f"""
        SELECT FROM pg_attribute
        WHERE attrelid = to_regclass({literal(identifiers.registry)}) AND attname = 'version' AND NOT attisdropped
        """)


def what_exists(identifiers: Identifiers) -> str:
    """One row: whether there is a table of collections; and the type and the dimensions of the vectors in the table of
    chunks, null if there is no such table."""
    return sql_text(f"""
        SELECT to_regclass({literal(identifiers.registry)}) IS NOT NULL AS there,
          y.typname AS type, a.atttypmod AS dimensions
        FROM (VALUES (to_regclass({literal(identifiers.table)}))) AS t (oid)
        LEFT JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attname = 'embedding' AND NOT a.attisdropped
        LEFT JOIN pg_type AS y ON y.oid = a.atttypid
        """)


def _has_table(identifiers: Identifiers) -> str:
    """A condition: the table of a registered collection has not been dropped by hand."""
    return f"{identifiers.regclass_of('name')} IS NOT NULL"


def collection_row(identifiers: Identifiers) -> str:
    """The registry's entry of one collection, in any version, if the collection's table exists: `$1` its name."""
    return sql_text(f"""
        SELECT dimensions, metric, embedder
        FROM {identifiers.registry}
        WHERE name = $1::text AND {_has_table(identifiers)}
        """)


def described_collection(identifiers: Identifiers) -> str:
    """The whole entry of one collection as JSON, whatever columns the registry has, and the number of the collection's
    table: `$1` its name."""
    return sql_text(f"""
        SELECT row_to_json(registered)::text AS described, {identifiers.regclass_of("name")}::oid AS number
        FROM {identifiers.registry} AS registered
        WHERE name = $1::text AND {_has_table(identifiers)}
        """)


_VERSION = "coalesce(to_jsonb(registered) ->> 'version', '1')"
"""The number of the latest migration that a collection has been through. Its column came with the second one."""


def origin(identifiers: Identifiers, name: str | None = None) -> str:
    """A column that describes a collection: the number of the latest migration that it has been through, its metric
    and its model, separated by spaces; null if the registry has no collection called `name`.

    It is part of the rows of a search or a read, so that no round trip of its own is needed to learn it.
    """
    described = f"{_VERSION} || ' ' || metric || ' ' || coalesce(embedder, '')"
    of = literal(identifiers.collection) if name is None else name
    return f"(SELECT {described} FROM {identifiers.registry} AS registered WHERE name = {of}) AS origin"


def is_of_version(identifiers: Identifiers, latest: int) -> str:
    """A condition: the collection has not been through a later migration than `latest`."""
    version = f"SELECT {_VERSION}::integer FROM {identifiers.registry} AS registered"
    return f"coalesce(({version} WHERE name = {literal(identifiers.collection)}), 1) <= {int(latest)}"


def number_of_table(identifiers: Identifiers) -> str:
    """One row: the number of the collection's table, null if there is no table."""
    return f"SELECT to_regclass({literal(identifiers.table)})::oid AS number"


def forget_collection(identifiers: Identifiers) -> str:
    """Remove a collection without a table from the registry: `$1` its name."""
    return f"DELETE FROM {identifiers.registry} WHERE name = $1::text AND NOT {_has_table(identifiers)}"


def register_collection(identifiers: Identifiers) -> str:
    """Enter a collection: `$1` its name, `$2` dimensions, `$3` metric, `$4` the model's name or null, `$5` the type of
    its vectors, `$6` its language."""
    return sql_text(f"""
        INSERT INTO {identifiers.registry} (name, dimensions, metric, embedder, type, language)
        VALUES ($1::text, $2::integer, $3::text, $4::text, $5::text, $6::text)
        ON CONFLICT (name) DO NOTHING
        """)


def claim_embedder(identifiers: Identifiers) -> str:
    """Give a collection without a known model one: `$1` its name, `$2` the model's. Returns the collection's model."""
    return sql_text(f"""
        UPDATE {identifiers.registry}
        SET embedder = coalesce(embedder, $2::text)
        WHERE name = $1::text
        RETURNING embedder
        """)


def set_version(identifiers: Identifiers) -> str:
    """Note that a collection has been through a migration: `$1` its name, `$2` the migration's number. The number of a
    later one stays."""
    return f"UPDATE {identifiers.registry} SET version = greatest(version, $2::integer) WHERE name = $1::text"


def collections(identifiers: Identifiers) -> str:
    """All entries of the list of collections: whether each has a table, and the space that it takes."""
    return sql_text(f"""
        SELECT
            name, dimensions, metric, embedder, created_at,
            {_has_table(identifiers)} AS has_table,
            coalesce(pg_total_relation_size({identifiers.regclass_of("name")}), 0) AS bytes
        FROM {identifiers.registry}
        ORDER BY name
        """)


def unlisted(identifiers: Identifiers) -> str:
    """The collections that have a table, for a schema without a list of collections."""
    is_in_schema = (
        "pg_table_is_visible(t.oid)" if identifiers.schema is None else f"n.nspname = {literal(identifiers.schema)}"
    )
    return sql_text(f"""
        SELECT substr(t.relname, {len("preheat_") + 1}) AS name, a.atttypmod AS dimensions
        FROM pg_class AS t
        JOIN pg_namespace AS n ON n.oid = t.relnamespace
        JOIN pg_constraint AS c ON c.conrelid = t.oid AND c.conname = t.relname || '.id'
        JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attname = 'embedding' AND NOT a.attisdropped
        WHERE starts_with(t.relname, 'preheat_') AND {is_in_schema}
        ORDER BY name
        """)


# One collection


def create_collection(identifiers: Identifiers, dimensions: int, type: VectorType) -> tuple[str, ...]:
    """The table of a collection, with the indexes that every write needs."""
    return (
        sql_text(f"""
            CREATE TABLE IF NOT EXISTS {identifiers.table} (
              id text CONSTRAINT {identifiers.index("id")} PRIMARY KEY,
              document text COLLATE "C" NOT NULL,
              position integer NOT NULL,
              text text NOT NULL,
              metadata jsonb NOT NULL,
              embedding {identifiers.of_pgvector(type)}({int(dimensions)})
            )
            """),
        f"CREATE INDEX IF NOT EXISTS {identifiers.index('document')} ON {identifiers.table} (document, position)",
    )


def allow_no_embedding(identifiers: Identifiers) -> str:
    """Let a table of an earlier version hold chunks without an embedding. It takes no time, as no row is read."""
    return f"ALTER TABLE {identifiers.table} ALTER COLUMN embedding DROP NOT NULL"


def index_prefixes(identifiers: Identifiers) -> str:
    """Create an index that serves a prefix of the documents' keys, if the table's own index of them does not.

    An index in the order of a language serves no prefix. The keys of a table of an earlier version have the order of
    the database; those of a new table have the order of code points.
    """
    return _block(f"""
        BEGIN
          IF NOT EXISTS (
            SELECT FROM pg_attribute
            JOIN pg_collation ON pg_collation.oid = attcollation
            JOIN pg_database ON datname = current_database()
            WHERE attrelid = {literal(identifiers.table)}::regclass AND attname = 'document' AND (
              collname IN ('C', 'POSIX')
              OR (
                collname = 'default'
                AND datcollate IN ('C', 'POSIX')
                AND coalesce(to_jsonb(pg_database) ->> 'datlocprovider', 'c') = 'c'
              )
            )
          ) THEN
            CREATE INDEX IF NOT EXISTS {identifiers.index("prefix")} ON {identifiers.table} (document COLLATE "C");
          END IF;
        END
        """)


def create_indexes(
    identifiers: Identifiers, metric: Metric, type: VectorType, language: str, hnsw: HNSW
) -> tuple[str, ...]:
    """What makes a search fast and a bulk load slow: the column of words, and the indexes of the words, of the metadata
    and of the vectors.

    The column of words comes first, as adding it rewrites the table. The index of the metadata serves
    `metadata @> ...`, the form of equality in a filter.
    """
    return (
        _block(f"""
            BEGIN
              IF {has_old_words(identifiers)} THEN
                {_drop_words(identifiers)};
              END IF;
              {_add_words(identifiers, language)}
            END
            """),
        create_words_index(identifiers),
        sql_text(f"""
            CREATE INDEX IF NOT EXISTS {identifiers.index("metadata")} ON {identifiers.table}
            USING gin (metadata jsonb_path_ops)
            """),
        sql_text(f"""
            CREATE INDEX IF NOT EXISTS {identifiers.index("embedding")} ON {identifiers.table}
            USING hnsw (embedding {identifiers.operator_class(metric, type)})
            WITH (m = {int(hnsw.m)}, ef_construction = {int(hnsw.ef_construction)})
            """),
    )


def renew_words(identifiers: Identifiers, language: str) -> str:
    """Replace a column of words of an earlier version, with its index; not for a large table, whose readers and writers
    would wait for long."""
    return _block(f"""
        BEGIN
          IF {has_old_words(identifiers)} THEN
            IF pg_table_size({literal(identifiers.table)}::regclass) <= {RENEWED_AT_ONCE} THEN
              {_drop_words(identifiers)};
              {_add_words(identifiers, language)}
              {create_words_index(identifiers)};
            END IF;
          END IF;
        END
        """)


def create_words_index(identifiers: Identifiers) -> str:
    """The index of the words."""
    return f"CREATE INDEX IF NOT EXISTS {identifiers.index('words')} ON {identifiers.table} USING gin (words)"


def has_old_words(identifiers: Identifiers) -> str:
    """A condition: the table has a column of words of an earlier version, which kept a text's Unicode forms apart."""
    return (
        "EXISTS (SELECT FROM pg_attrdef JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum "
        f"WHERE adrelid = to_regclass({literal(identifiers.table)}) AND attname = 'words' "
        f"AND pg_get_expr(adbin, adrelid) NOT LIKE '%(?<=[0-9])%' AND NOT {_WIDE})"
    )


_WIDE = "(getdatabaseencoding() <> 'UTF8' AND pg_encoding_max_length(pg_char_to_encoding(getdatabaseencoding())) > 1)"
"""Whether PostgreSQL cannot normalize the text of this database that is not ASCII, because of the encoding."""


def _add_words(identifiers: Identifiers, language: str) -> str:
    """Add the words of the texts as a generated column."""

    def add(text: str) -> str:
        words = f"to_tsvector({literal(language)}::regconfig, {text})"
        column = f"words tsvector GENERATED ALWAYS AS ({words}) STORED"
        return f"ALTER TABLE {identifiers.table} ADD COLUMN IF NOT EXISTS {column}"

    return f"IF {_WIDE} THEN {add(f'left(text, {INDEXED})')}; ELSE {add(separated_sql('text'))}; END IF;"


def _drop_words(identifiers: Identifiers) -> str:
    return f"ALTER TABLE {identifiers.table} DROP COLUMN words"


def _block(body: str) -> str:
    """A block of PL/pgSQL as one statement."""
    tag = "$words$"
    while tag in body:
        tag = f"{tag[:-1]}_$"
    return f"DO {tag}\n{sql_text(body)}\n{tag}"


def count_chunks(identifiers: Identifiers) -> str:
    """One row: how many chunks there are."""
    return f"SELECT count(*) AS chunks FROM {identifiers.table}"


def analyze(identifiers: Identifiers) -> str:
    """Update the planner's statistics of the table."""
    return f"ANALYZE {identifiers.table}"


def drop_collection(identifiers: Identifiers) -> str:
    """Drop a collection's tables: its chunks, those that are being embedded again, and its answers."""
    return f"DROP TABLE IF EXISTS {identifiers.table}, {identifiers.replacement.table}, {identifiers.answers}"


def unregister_collection(identifiers: Identifiers) -> str:
    """Remove a collection from the registry: `$1` its name."""
    return f"DELETE FROM {identifiers.registry} WHERE name = $1::text"


def made_of_collection(identifiers: Identifiers) -> str:
    """One row: whether the collection has a table, and whether there is a registry."""
    return sql_text(f"""
        SELECT
          to_regclass({literal(identifiers.table)}) IS NOT NULL AS chunks,
          to_regclass({literal(identifiers.registry)}) IS NOT NULL AS registry
        """)

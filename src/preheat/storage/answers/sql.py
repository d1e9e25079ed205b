"""SQL about a collection's answers, as pure functions of the collection's identifiers.

Every parameter is text with a cast, so that the driver need not ask the server about types.
"""

from __future__ import annotations

from ..identifiers import ANSWERS, Identifiers, literal, quoted, sql_text

SWEPT_AT_ONCE = 100
"""How many expired answers each store deletes at most, so that no store takes long."""

INDEXED_FROM = 10_000
"""From so many answers on their vectors get an index. Fewer are compared one by one in some milliseconds."""

MOST_DIMENSIONS = 2000
"""Of an index."""

CANDIDATES = 200
"""How many answers the scan of the index looks at, at least: an answer that is missed is researched again."""

_LIVE = "(expires_at IS NULL OR expires_at > now())"
_AGE = "greatest(0, extract(epoch FROM now() - created_at))::float8 AS age"
_LOCK = "hashtextextended('preheat answer ' || name, 0)"


def create_answers(identifiers: Identifiers) -> tuple[str, ...]:
    """The table of a collection's answers, and its indexes.

    The answer is `json`, not `jsonb`: it is returned exactly as it was stored, and may hold whatever JSON can. The
    embedding is a vector of any number of dimensions, as the collection's model may change.
    """
    return (
        sql_text(f"""
            CREATE TABLE IF NOT EXISTS {identifiers.answers} (
              key text CONSTRAINT {identifiers.index("answers.key")} PRIMARY KEY,
              scope text NOT NULL,
              embedder text NOT NULL,
              question text NOT NULL,
              embedding {identifiers.of_pgvector("vector")} NOT NULL,
              answer json NOT NULL,
              created_at timestamptz NOT NULL,
              expires_at timestamptz
            )
            """),
        f"CREATE INDEX IF NOT EXISTS {identifiers.index('answers.scope')} ON {identifiers.answers} (scope, embedder)",
        sql_text(f"""
            CREATE INDEX IF NOT EXISTS {identifiers.index("answers.until")} ON {identifiers.answers} (expires_at)
            WHERE expires_at IS NOT NULL
            """),
    )


def has_answers(identifiers: Identifiers) -> str:
    """One row, true if the collection has a table of answers."""
    return f"SELECT to_regclass({literal(identifiers.answers)}) IS NOT NULL AS there"


def exact(identifiers: Identifiers) -> str:
    """The answer with the key `$1`, unless it has expired."""
    return sql_text(f"""
        SELECT question, answer::text AS answer, 1.0::float8 AS score, {_AGE}
        FROM {identifiers.answers}
        WHERE key = $1::text AND {_LIVE}
        """)


def nearest(identifiers: Identifiers, dimensions: int) -> str:
    """The answers to the questions nearest to the vector `$1`, in the scope `$2` and of the model `$3`, with a score
    of at least `$4`, at most `$5` of them.

    In a small scope all answers are read. In a large one the index of :func:`create_index` yields the nearest, if there
    is one; the scan goes on until it has found answers of the scope. The score is compared outside of the scan, which
    would go on for long if no answer had it. The last column is null, but too expensive for a generic plan: which way
    is better depends on the scope.

    Answers whose vectors have another number of dimensions are left out, as a model may have changed it under the same
    name. A zero vector is near to nothing: its distance is NaN, which the server sorts after all numbers.
    """
    vector, of_dimensions = identifiers.of_pgvector("vector"), f"{_dimensions(identifiers)} = {int(dimensions)}"
    distance = f"{_indexed(identifiers, dimensions)} {identifiers.operator('cosine')} (SELECT vector FROM query)"
    return sql_text(f"""
        WITH query AS MATERIALIZED (
          SELECT
            $1::text::{vector} AS vector,
            set_config(
              'hnsw.ef_search', greatest({CANDIDATES}, current_setting('hnsw.ef_search', true)::bigint)::text, true
            ),
            CASE WHEN current_setting('hnsw.iterative_scan', true) = 'off'
            THEN set_config('hnsw.iterative_scan', 'strict_order', true) END,
            CASE WHEN $2::text IS NULL THEN (SELECT count(*) FROM generate_series(1, 1000000000)) END
        )
        SELECT question, answer, 1 - distance AS score, age
        FROM (
          SELECT
            key,
            question,
            answer::text AS answer,
            {distance} AS distance,
            {_AGE}
          FROM {identifiers.answers}
          WHERE scope = $2::text AND embedder = $3::text AND {_LIVE} AND {of_dimensions}
          ORDER BY {distance} FETCH FIRST ($5::text::bigint) ROWS WITH TIES
        ) AS near
        WHERE distance <= 1 - $4::text::float8
        ORDER BY distance, key
        LIMIT $5::text::bigint
        """)


def _dimensions(identifiers: Identifiers) -> str:
    return f"{identifiers.of_pgvector('vector_dims')}(embedding)"


def _indexed(identifiers: Identifiers, dimensions: int) -> str:
    """The vectors with one number of dimensions as the index has them. The column has any number of them."""
    return f"(embedding::{identifiers.of_pgvector('vector')}({int(dimensions)}))"


def index_of(identifiers: Identifiers, dimensions: int) -> str:
    """The bare name of the index of the vectors with one number of dimensions."""
    return f"{identifiers.table_name}{ANSWERS}.v{int(dimensions)}"


def create_index(identifiers: Identifiers, dimensions: int) -> str:
    """Index the vectors with one number of dimensions."""
    operators = identifiers.operator_class("cosine", "vector")
    return sql_text(f"""
        CREATE INDEX IF NOT EXISTS {quoted(index_of(identifiers, dimensions))} ON {identifiers.answers}
        USING hnsw ({_indexed(identifiers, dimensions)} {operators})
        WHERE {_dimensions(identifiers)} = {int(dimensions)}
        """)


def try_indexing(identifiers: Identifiers) -> str:
    """One row, true if no other session creates an index of these answers; until the transaction ends."""
    label = literal(f"preheat answers {identifiers.schema or ''} {identifiers.collection}")
    return f"SELECT pg_try_advisory_xact_lock(hashtextextended({label}, 0)) AS held"


def store(identifiers: Identifiers, dimensions: int) -> str:
    """Store an answer, and delete some that have expired: `$1` key, `$2` scope, `$3` model, `$4` question, `$5` vector,
    `$6` the answer as JSON, `$7` for how many seconds, or null to keep it without a limit.

    The new answer is stored first, as the deletion must not pick its key. The deletion skips rows that another
    transaction has locked. So two of these statements never wait for each other's expired answers.

    One row: whether there are so many answers, by the server's latest count, that they should have an index.
    """
    columns = ("scope", "embedder", "question", "embedding", "answer", "created_at", "expires_at")
    index = identifiers.relation(index_of(identifiers, dimensions))
    replaced = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return sql_text(f"""
        WITH stored AS (
          INSERT INTO {identifiers.answers} (key, {", ".join(columns)})
          VALUES (
            $1::text, $2::text, $3::text, $4::text, $5::text::{identifiers.of_pgvector("vector")}, $6::text::json,
            now(), now() + make_interval(secs => $7::text::float8)
          )
          ON CONFLICT (key) DO UPDATE SET {replaced}
          RETURNING key
        ),
        expired AS (
          SELECT key
          FROM {identifiers.answers}
          WHERE expires_at <= now() AND key <> ALL (SELECT key FROM stored)
          LIMIT {SWEPT_AT_ONCE}
          FOR UPDATE SKIP LOCKED
        ),
        gone AS (
          DELETE FROM {identifiers.answers} AS gone USING expired WHERE gone.key = expired.key
        )
        SELECT
          reltuples >= {INDEXED_FROM} AND to_regclass({literal(index)}) IS NULL AS lacks_index
        FROM pg_class
        WHERE oid = to_regclass({literal(identifiers.answers)})
        """)


def sweep(identifiers: Identifiers) -> str:
    """Delete all answers that have expired. One row: how many."""
    return _counted(f"DELETE FROM {identifiers.answers} WHERE expires_at <= now()")


def clear(identifiers: Identifiers) -> str:
    """Delete the answers of the scope `$1`, or all if it is null. One row: how many."""
    return _counted(f"DELETE FROM {identifiers.answers} WHERE scope = coalesce($1::text, scope)")


def _counted(delete: str) -> str:
    return sql_text(f"""
        WITH gone AS (
          {delete} RETURNING 1
        )
        SELECT count(*) AS gone FROM gone
        """)


def try_locks() -> str:
    """Try to lock the names `$1` for this session: one row for each, true if the session has the lock.

    Null if the session does not have the process id `$2`: then a pooler is in between, and may give the session with
    the lock to another client.
    """
    return sql_text(f"""
        SELECT name, CASE WHEN pg_backend_pid() = $2::text::integer THEN pg_try_advisory_lock({_LOCK}) END AS held
        FROM unnest($1::text[]) AS name
        """)


def unlock() -> str:
    """Unlock the names `$1`, each as often as the list has it."""
    return f"SELECT pg_advisory_unlock({_LOCK}) FROM unnest($1::text[]) AS name"

"""SQL about a collection's answers, as pure functions of the collection's identifiers.

Every parameter is text with a cast, so that the driver need not ask the server about types.
"""

from __future__ import annotations

from ..identifiers import Identifiers, literal, sql_text

SWEPT_AT_ONCE = 100
"""How many expired answers each store deletes at most, so that no store takes long."""

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


def nearest(identifiers: Identifiers) -> str:
    """The answers to the questions nearest to the vector `$1`, in the scope `$2` and of the model `$3`, with a score
    of at least `$4`, at most `$5` of them.

    It reads all answers of the scope: a scope has few, and an index would miss some of them. Answers whose vectors have
    another number of dimensions are left out, as a model may have changed it under the same name. A zero vector is near
    to nothing: its distance is NaN, which the server sorts after all numbers.
    """
    vector, dimensions = "(SELECT vector FROM query)", identifiers.of_pgvector("vector_dims")
    return sql_text(f"""
        WITH query AS MATERIALIZED (
          SELECT $1::text::{identifiers.of_pgvector("vector")} AS vector
        )
        SELECT question, answer, 1 - distance AS score, age
        FROM (
          SELECT
            key,
            question,
            answer::text AS answer,
            embedding {identifiers.operator("cosine")} {vector} AS distance,
            {_AGE}
          FROM {identifiers.answers}
          WHERE scope = $2::text
            AND embedder = $3::text
            AND {_LIVE}
            AND {dimensions}(embedding) = {dimensions}({vector})
          ORDER BY distance, key
          LIMIT $5::text::bigint
        ) AS near
        WHERE distance <= 1 - $4::text::float8
        ORDER BY distance, key
        """)


def store(identifiers: Identifiers) -> str:
    """Store an answer, and delete some that have expired: `$1` key, `$2` scope, `$3` model, `$4` question, `$5` vector,
    `$6` the answer as JSON, `$7` for how many seconds, or null to keep it without a limit.

    The new answer is stored first, as the deletion must not pick its key. The deletion skips rows that another
    transaction has locked. So two of these statements never wait for each other's expired answers.
    """
    columns = ("scope", "embedder", "question", "embedding", "answer", "created_at", "expires_at")
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
        )
        DELETE FROM {identifiers.answers} AS gone USING expired WHERE gone.key = expired.key
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

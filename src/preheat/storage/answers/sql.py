"""Every SQL text about a collection's answers, as pure functions of the collection's names.

Everything travels as text with a cast, so that the driver has no types to ask the server about.
"""

from __future__ import annotations

from ..identifiers import Names

__all__ = ("clear", "create_answers", "exact", "nearest", "store", "sweep", "try_locks", "unlock")

SWEPT_AT_ONCE = 100
"""How many expired answers each store takes away at most, so that no one of them takes long."""

_LIVE = "(expires_at IS NULL OR expires_at > now())"
_AGE = "greatest(0, extract(epoch FROM now() - created_at))::float8 AS age"
_LOCK = "hashtextextended('preheat answer ' || name, 0)"


def create_answers(names: Names) -> tuple[str, ...]:
    """The table of a collection's answers, and its indexes.

    The answer is `json`, not `jsonb`: it is given back just as it was stored, and may hold whatever JSON can. The
    embedding is a vector of any number of dimensions, since a collection may be made anew for another model.
    """
    name = names.answers
    return (
        f"CREATE TABLE IF NOT EXISTS {name} ("
        f"key text CONSTRAINT {names.index('answers.key')} PRIMARY KEY, "
        f"scope text NOT NULL, "
        f"embedder text NOT NULL, "
        f"question text NOT NULL, "
        f"embedding {names.type()} NOT NULL, "
        f"answer json NOT NULL, "
        f"created_at timestamptz NOT NULL, "
        f"expires_at timestamptz)",
        f"CREATE INDEX IF NOT EXISTS {names.index('answers.scope')} ON {name} (scope, embedder)",
        f"CREATE INDEX IF NOT EXISTS {names.index('answers.until')} ON {name} (expires_at) "
        "WHERE expires_at IS NOT NULL",
    )


def exact(names: Names) -> str:
    """The answer with the key `$1`, unless it has expired."""
    return (
        f"SELECT question, answer::text AS answer, 1.0::float8 AS score, {_AGE} "
        f"FROM {names.answers} WHERE key = $1::text AND {_LIVE}"
    )


def nearest(names: Names) -> str:
    """The answers to the questions nearest to the vector `$1`, in the scope `$2` and of the model `$3`, with a score
    of at least `$4`, at most `$5` of them.

    It reads all answers of the scope: those of one scope are few, and an index would miss some of them. Only those
    with as many dimensions count, should a model have changed them under the same name. A zero vector is near to
    nothing: its distance is NaN, which the server takes for more than any number.
    """
    dimensions = names.function("vector_dims")
    distance = f"embedding {names.operator('cosine')} $1::text::{names.type()}"
    return (
        f"SELECT question, answer, 1 - distance AS score, age FROM ("
        f"SELECT key, question, answer::text AS answer, {distance} AS distance, {_AGE} "
        f"FROM {names.answers} WHERE scope = $2::text AND embedder = $3::text AND {_LIVE} "
        f"AND {dimensions}(embedding) = {dimensions}($1::text::{names.type()}) "
        f"ORDER BY distance, key LIMIT $5::text::bigint) AS near "
        f"WHERE distance <= 1 - $4::text::float8 ORDER BY distance, key"
    )


def store(names: Names) -> str:
    """Store an answer, and take away some that have expired: `$1` key, `$2` scope, `$3` model, `$4` question, `$5`
    vector, `$6` the answer as JSON, `$7` for how many seconds, or null for ever.

    The answer is stored first, since whether it is decides which others go. Those that somebody else works on are
    passed over. So no two of these wait for each other.
    """
    name = names.answers
    columns = ("scope", "embedder", "question", "embedding", "answer", "created_at", "expires_at")
    replaced = ", ".join(f"{column} = excluded.{column}" for column in columns)
    return (
        f"WITH stored AS (INSERT INTO {name} (key, {', '.join(columns)}) "
        f"VALUES ($1::text, $2::text, $3::text, $4::text, $5::text::{names.type()}, $6::text::json, now(), "
        f"now() + make_interval(secs => $7::text::float8)) "
        f"ON CONFLICT (key) DO UPDATE SET {replaced} RETURNING key), "
        f"expired AS (SELECT key FROM {name} WHERE expires_at <= now() AND key <> ALL (SELECT key FROM stored) "
        f"LIMIT {SWEPT_AT_ONCE} FOR UPDATE SKIP LOCKED) "
        f"DELETE FROM {name} AS gone USING expired WHERE gone.key = expired.key"
    )


def sweep(names: Names) -> str:
    """Take away all answers that have expired. Answers with one row: how many went."""
    return _counted(f"DELETE FROM {names.answers} WHERE expires_at <= now()")


def clear(names: Names) -> str:
    """Take away the answers of the scope `$1`, or all if it is null. Answers with one row: how many went."""
    return _counted(f"DELETE FROM {names.answers} WHERE scope = coalesce($1::text, scope)")


def _counted(delete: str) -> str:
    return f"WITH gone AS ({delete} RETURNING 1) SELECT count(*) AS gone FROM gone"


def try_locks() -> str:
    """Try to lock the names `$1` for this session: one row for each, true if it has the lock.

    Null if the session is not the one with the process id `$2`: then a pooler is in between, and what is locked now
    may be another client's in a moment.
    """
    return (
        f"SELECT name, CASE WHEN pg_backend_pid() = $2::text::integer THEN pg_try_advisory_lock({_LOCK}) END AS held "
        f"FROM unnest($1::text[]) AS name"
    )


def unlock() -> str:
    """Unlock the names `$1`, each as often as it is named."""
    return f"SELECT pg_advisory_unlock({_LOCK}) FROM unnest($1::text[]) AS name"

"""SQL that searches a collection, as pure functions of its identifiers and of the shape of the search.

Values are bound; only quoted identifiers, conditions and whole numbers are written into a statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from ..identifiers import Identifiers, literal, sql_text
from ..models import Metric
from ..schema.sql import origin
from ..text_query import query_sql

FIRST_OF_CONDITION = 6
"""The number of the first placeholder of a search's condition."""

_COLUMNS = "id, document, position, text, metadata"

SAMPLED_ROWS, SAMPLED_PAGES = 250, 16
"""About how many rows, and at least how many pages of a table, are read to estimate the share of the rows that pass a
condition."""

DEARER = 6
"""How many rows that pass are compared in the time of one candidate of the index."""

EVEN = 0.5, 2.0
"""How far the share of the candidates that pass may be from that of the table to be the same."""

RANKED = 20_000
"""About how many rows a hybrid search ranks by their words."""

FEW = 50_000
"""Up to so many rows that pass a condition are compared one by one if the index does not yield enough."""

_EF_SEARCH = (
    "set_config('hnsw.ef_search', coalesce($4::text, greatest(current_setting('hnsw.ef_search', true)::bigint, "
    "{least}, least({times} * $2::bigint, 1000))::text), true)"
)
_CANDIDATES = _EF_SEARCH.format(least=100, times=2)  # with pgvector's own 40, too often none is in the right cluster
_ASKED_SCAN = "WHEN $5::text IS NOT NULL THEN set_config('hnsw.iterative_scan', $5::text, true)"
_SETTINGS = (_CANDIDATES, f"CASE {_ASKED_SCAN} END")

_FOR_THESE_VALUES = "CASE WHEN $2::bigint IS NULL THEN (SELECT count(*) FROM generate_series(1, 1000000000)) END"
"""Null, and never computed, but too expensive for a generic plan: which index helps depends on how many rows pass, and
the planner can estimate that only from the values."""


def _settings(condition: str, *, exact: bool) -> tuple[str, ...]:
    """The settings of the scan of the index; with a condition :func:`_sampled` sets them."""
    return (*(() if condition and not exact else _SETTINGS), *((_FOR_THESE_VALUES,) if condition else ()))


class Settings(NamedTuple):
    """The placeholders of settings that policies for rows may read: name and value in turn."""

    first: int = 0
    """The number of the first placeholder."""
    pairs: int = 0
    """How many settings there are."""


NO_SETTINGS = Settings()


def _query(*columns: str, settings: Settings = NO_SETTINGS) -> str:
    """What the search looks for, computed before the scan of the index begins, and with it the scan's settings.

    The settings of the caller hold until the end of the statement, which is a transaction of its own. A policy must not
    see a row before they are set. So whatever reads the table has the condition :data:`_IS_SET`. It has no column of
    the table, so PostgreSQL evaluates it once, before the scan or the join that it belongs to begins.
    """
    query = f"query AS MATERIALIZED (\n  SELECT\n    {_LISTED.join(columns)}"
    if not settings.pairs:
        return f"{query}\n)"
    numbers = range(settings.first, settings.first + 2 * settings.pairs, 2)
    each = " AND ".join(f"set_config(${number}::text, ${number + 1}::text, true) IS NOT NULL" for number in numbers)
    return f"settings AS MATERIALIZED (\n  SELECT {each} AS is_set\n),\n{query}\n  FROM settings\n)"


_IS_SET = "(SELECT is_set FROM settings)"


_LISTED = ",\n    "
_LISTED_PARTS = ",\n"


def _vector(identifiers: Identifiers) -> str:
    return f"$1::text::{identifiers.of_pgvector('vector')} AS vector"


def _distance(identifiers: Identifiers, metric: Metric) -> str:
    return f"embedding {identifiers.operator(metric)} (SELECT vector FROM query)"


def _origin(identifiers: Identifiers) -> str:
    return origin(identifiers, "$3::text")


@lru_cache(maxsize=256)
def search(identifiers: Identifiers, metric: Metric, *, exact: bool = False) -> str:
    """The whole search in one statement: `$1` the vector as text, `$2` how many rows, `$3` the collection's name, `$4`
    and `$5` the values of `hnsw.ef_search` and `hnsw.iterative_scan` for this statement, or null.

    The vector comes from a subquery, which runs before the scan begins and also sets the two settings, for this
    statement alone: no round trips for `BEGIN`, `SET LOCAL` and `COMMIT`. An exact search uses no index of vectors.

    Each row has the column :func:`origin <preheat.storage.schema.sql.origin>`.
    """
    return sql_text(f"""
        WITH {_query(_vector(identifiers), *_SETTINGS)},
        {_nearest("nearest", identifiers, _distance(identifiers, metric), exact=exact)}
        SELECT found.*, {_origin(identifiers)}
        FROM (
          {_joined(identifiers, _COLUMNS, _FIRST.format("nearest"))}
        ) AS found
        ORDER BY distance, id
        """)


_HAS_VECTOR = "embedding IS NOT NULL"

_FIRST = "SELECT at, key, distance FROM {} ORDER BY distance, key LIMIT $2::bigint"
"""The first `$2` of the nearest rows."""


def _nearest(
    cte: str, identifiers: Identifiers, distance: str, condition: str = "", *, exact: bool, rows: str = "$2::bigint"
) -> str:
    """A part of a query: the places, ids and distances of the nearest rows, with all rows that are as near as the last
    one. So the choice of the first rows does not depend on how they were found. The parts that follow read only these
    rows, so that the sort of a whole table needs no more than them. Rows without an embedding are passed over.

    An index yields rows in the order of the distance alone, without the id.
    """
    if exact:
        order = f"ORDER BY ({distance}) + 0, id LIMIT {rows}"  # adding 0 makes the index of vectors unusable
    else:
        order = f"ORDER BY {distance} FETCH FIRST ({rows}) ROWS WITH TIES"
    return sql_text(f"""
        {cte} AS MATERIALIZED (
          SELECT ctid AS at, id AS key, {distance} AS distance
          FROM {identifiers.table}
          WHERE {" AND ".join(filter(None, (_HAS_VECTOR, condition)))}
          {order}
        )
        """)


@lru_cache(maxsize=256)
def filtered_search(
    identifiers: Identifiers,
    metric: Metric,
    condition: str,
    *,
    exact: bool = False,
    settings: Settings = NO_SETTINGS,
) -> str:
    """The search among the rows that pass a condition: the parameters of :func:`search`, then the condition's own, then
    those of the settings.

    :func:`_found` tells how they are found. `short` is true if the index has not yielded enough rows, and more than
    :data:`FEW` pass. There is always a row, without an id if nothing is found.
    """
    short = "false" if exact else f"{_PASSED} > {FEW} AND (SELECT count(*) FROM scanned) < $2::bigint"
    condition = _when_set(condition, settings)
    return sql_text(f"""
        WITH {_query(_vector(identifiers), *_settings(condition, exact=exact), settings=settings)},
        {_found(identifiers, _COLUMNS, _distance(identifiers, metric), condition, exact=exact)}
        SELECT found.*, {_origin(identifiers)}, {short} AS short
        FROM query LEFT JOIN found ON true
        ORDER BY distance, id
        LIMIT $2::bigint
        """)


def _when_set(condition: str, settings: Settings) -> str:
    """A condition that is not evaluated before the settings are set."""
    return " AND ".join(filter(None, (condition, _IS_SET if settings.pairs else "")))


_PASSED = "(SELECT passed FROM counted)"


def _found(identifiers: Identifiers, columns: str, distance: str, condition: str, *, exact: bool) -> str:
    """Parts of a query, the last of which is `found`: the `$2` rows nearest to the vector that pass a condition.

    An index of vectors knows no conditions, and the planner does not know how many rows pass one on JSON. So a sample
    of the rows tells the share that passes, in the part `sampled`. From it the part `how` decides:

    - As many candidates are looked at as hold twice the rows that are wanted, 200 to 1,000 of them.
    - If comparing all rows that pass takes less than that, or needs more than 1,000 candidates, they are compared.
    - If more than :data:`FEW` rows pass, the scan of the index goes on until it has found 8 times as many rows as are
      wanted, if pgvector can do that.

    The candidates are in about the right order, and the farther away the rows that pass are, the less reliable the
    order is. So the result of the scan is used if it has 4 times as many rows as are wanted; or if it has as many as
    are wanted, and about as large a share of the candidates passes as of the table. Then what passes has nothing to do
    with the vectors, and the candidates are representative. Otherwise, as where whole clusters pass, all rows that pass
    are compared, unless there are more than :data:`FEW`. If the caller has chosen the settings of the scan, its result
    is used if it has as many rows as are wanted.
    """
    if exact:
        return sql_text(f"""
        {_nearest("best", identifiers, distance, condition, exact=True)},
        found AS (
          {_joined(identifiers, columns, "SELECT * FROM best", condition)}
        )
        """)
    hidden = f"CASE WHEN {condition} THEN true ELSE false END"  # from the indexes of the metadata and the words
    return sql_text(f"""
        {_sampled(identifiers, condition)},
        {
        _nearest(
            "scanned",
            identifiers,
            distance,
            f"(SELECT is_scanned FROM how) AND {hidden}",
            exact=False,
            rows="8 * $2::bigint",
        )
    },
        doubted AS MATERIALIZED (
          SELECT CASE
            WHEN NOT is_scanned THEN true
            WHEN is_asked THEN found < $2::bigint
            WHEN found >= 4 * $2::bigint THEN false
            ELSE found < $2::bigint OR found NOT BETWEEN {EVEN[0]} * expected AND {EVEN[1]} * expected
          END AS is_doubted
          FROM how, (SELECT count(*) AS found FROM scanned) AS counted
        ),
        few AS MATERIALIZED (
          SELECT ctid AS at, id AS key, {distance} AS distance
          FROM {identifiers.table}
          WHERE {_HAS_VECTOR} AND {condition} AND (SELECT is_doubted FROM doubted)
          LIMIT {FEW + 1}
        ),
        counted AS MATERIALIZED (
          SELECT count(*) AS passed FROM few
        ),
        best AS MATERIALIZED (
          {_FIRST.format(f"few WHERE {_PASSED} <= {FEW}")}
        ),
        first AS MATERIALIZED (
          {_FIRST.format(f"scanned WHERE {_PASSED} NOT BETWEEN 1 AND {FEW}")}
        ),
        found AS (
          {_joined(identifiers, columns, "SELECT * FROM best UNION ALL SELECT * FROM first", condition)}
        )
        """)


def _sampled(identifiers: Identifiers, condition: str) -> str:
    """Parts of a query, the last of which is `how`: how the rows that pass a condition are to be found, and the
    settings for the scan of the index, which are set before it begins."""
    is_set = f" AND {_IS_SET}" if _IS_SET in condition else ""
    ef_search = "greatest(200, least(1000, ceil(2 * $2::bigint / nullif(share, 0))))"
    return sql_text(f"""
        part AS MATERIALIZED (
          SELECT
            least(1, greatest({SAMPLED_ROWS} / nullif(reltuples, 0), {SAMPLED_PAGES} / pages)) AS part,
            CASE WHEN reltuples > 0 THEN reltuples * pages / greatest(relpages, 1) END AS known_rows
          FROM pg_class, greatest(1, pg_relation_size(oid) / current_setting('block_size')::float8) AS pages
          WHERE oid = to_regclass({literal(identifiers.table)})
        ),
        sampled AS MATERIALIZED (
          SELECT
            coalesce(avg(passes::integer), 0)::float8 AS share,
            coalesce((SELECT known_rows FROM part), count(*) / (SELECT part FROM part)) AS rows
          FROM (
            SELECT CASE WHEN {condition} THEN true ELSE false END AS passes
            FROM {identifiers.table} TABLESAMPLE SYSTEM (100 * (SELECT part FROM part))
            WHERE {_HAS_VECTOR}{is_set}
            LIMIT {4 * SAMPLED_ROWS}
          ) AS looked_at
        ),
        how AS MATERIALIZED (
          SELECT
            is_asked,
            is_asked
              OR share * rows > {FEW}
              OR (share * rows > {DEARER} * candidates AND share * candidates > 1.9 * $2::bigint) AS is_scanned,
            share * candidates AS expected,
            set_config('hnsw.ef_search', candidates::text, true),
            CASE
              {_ASKED_SCAN}
              WHEN current_setting('hnsw.iterative_scan', true) = 'off' AND share * rows > {FEW}
              THEN set_config('hnsw.iterative_scan', 'relaxed_order', true)
            END
          FROM (
            SELECT
              share,
              rows,
              $4::text IS NOT NULL OR $5::text IS NOT NULL AS is_asked,
              coalesce(
                $4::bigint,
                greatest(current_setting('hnsw.ef_search', true)::bigint, {ef_search})
              ) AS candidates
            FROM sampled
          ) AS estimated
        )
        """)


def _joined(identifiers: Identifiers, columns: str, rows: str, condition: str = "") -> str:
    """A subquery: rows that are known by their places, with their columns. The places of two partitions of a table can
    be equal, so the id is compared as well."""
    is_set = f" WHERE {_IS_SET}" if _IS_SET in condition else ""
    return f"""SELECT {columns}, near.distance
  FROM ({rows}) AS near
  JOIN {identifiers.table} AS chunk ON chunk.ctid = near.at AND chunk.id = near.key{is_set}"""


RECIPROCAL_RANK = 60
"""Added to a rank before it is inverted; https://doi.org/10.1145/1571941.1572114 (Cormack and others, 2009)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The properties of a ranked search that its text depends on."""

    metric: Metric
    """The metric of the distance."""
    like: bool = False
    """Whether the vector is that of a stored chunk, which is left out."""
    hybrid: bool = False
    """Whether the search looks for words, too."""
    excluding: bool = False
    """Whether hits with certain words are excluded."""
    diverse: bool = False
    """Whether the similarities between the rows are returned."""
    filter: str = ""
    """The condition on the metadata, if there is one."""
    exact: bool = False
    """Whether the search uses no index of the vectors."""
    words_alone: bool = False
    """Whether it looks for words and for nothing else; then the vector is null."""
    settings: Settings = NO_SETTINGS
    """The settings that are set first."""


@lru_cache(maxsize=256)
def ranked_search(identifiers: Identifiers, shape: Shape) -> str:
    """A search that needs more than the order of one index, also in one statement.

    `$1` is the vector as text, or the id of the chunk that has the vector; `$2` the number of candidates; `$3`, `$4`
    and `$5` are as in :func:`search`. For a hybrid search the text query and the number of rows that are wanted follow;
    then the query of the excluded words, if there are any; the condition's own parameters, and those of the settings.

    In a hybrid search there are `$2` candidates by the vector and as many by the words, in the order of `ts_rank`; the
    two lists are fused by the sum of their reciprocal ranks. A search by words alone has one list, and the score is
    that of `ts_rank`. Ties are broken by stable columns: by the id where the
    candidates by words are cut off, elsewhere by the distance, then the id.

    A diverse search has the column `similarities`: a JSON list of the cosine similarities of a row with each of the
    rows before it.

    A row whose distance is not a number, such as that of a zero vector by cosine, is not a candidate of either list. A
    row without a vector is a candidate by its words, with a null for the distance.

    There is always a row, without an id if nothing is found. `missing` is true if no chunk has that id and a
    vector; `nowhere` if its vector has no distance to itself; `short` if the index has not yielded enough candidates,
    and too many rows pass the condition to be compared.
    """
    condition = _condition(shape)
    shown = [_COLUMNS, "distance"]
    source, best, limit, fused = "near", "distance, id", "", ""
    near = "" if shape.words_alone else _near(identifiers, shape, condition)
    if shape.hybrid:
        source, best, limit = "fused", "score DESC, distance, id", " LIMIT $7::bigint"
        fused = _fused(identifiers, shape, condition)
        shown.append("vector_rank, text_rank, score")
    direction = ""
    if shape.diverse:
        normalize, vector = identifiers.of_pgvector("l2_normalize"), identifiers.of_pgvector("vector")
        direction = f", {normalize}(embedding::{vector}) AS direction"
        shown.append(_similarities(identifiers))
    short, nowhere = "false", "false"
    if condition and not shape.exact:
        short = f"{_PASSED} > {FEW} AND (SELECT count(*) FROM near) < $2::bigint"
    if shape.like:
        nowhere = f"query.vector {identifiers.operator(shape.metric)} query.vector = 'NaN'"
    return sql_text(f"""
        WITH {_ranked_query(identifiers, shape, _settings(condition, exact=shape.exact or shape.words_alone))},
        {_LISTED_PARTS.join(filter(None, (near, fused)))},
        chosen AS MATERIALIZED (
          SELECT *, row_number() OVER (ORDER BY {best}) AS place{direction}
          FROM {source}
          ORDER BY place{limit}
        )
        SELECT
          {", ".join(shown)},
          {_origin(identifiers)},
          {short} AS short,
          query.vector IS NULL AS missing,
          {nowhere} AS nowhere
        FROM query LEFT JOIN chosen ON true
        ORDER BY place
        """)


def _ranked_query(identifiers: Identifiers, shape: Shape, settings: tuple[str, ...]) -> str:
    """What a ranked search looks for."""
    own = f"(SELECT embedding FROM {identifiers.table} WHERE id = $1::text) AS vector"
    columns = [own if shape.like else _vector(identifiers)]
    language = f"(SELECT language::regconfig FROM {identifiers.registry} WHERE name = $3::text)"
    if shape.hybrid:
        columns.append(f"{_rare(identifiers, query_sql(language, '$6::text'), shape)} AS wanted")
    if shape.excluding:
        columns.append(f"{query_sql(language, '$8::text' if shape.hybrid else '$6::text')} AS excluded")
    return _query(*columns, *settings, settings=shape.settings)


def _rare(identifiers: Identifiers, query: str, shape: Shape) -> str:
    """The words of a query that are looked for: in a large table the rarest ones, with at most :data:`RANKED` rows in
    all by the server's statistics.

    Every row that matches is ranked, so common words cost the most and tell the least. They are left to the vectors. A
    search by words alone keeps at least the rarest. A word that is not among the most common ones, a phrase and the
    beginning of a word count as rare.
    """
    keeps = " OR place = 1" if shape.words_alone else ""
    table, namespace = literal(identifiers.table_name), "SELECT nspname FROM pg_namespace WHERE oid = relnamespace"
    return sql_text(f"""
        (
              SELECT CASE WHEN reltuples <= {RANKED} THEN asked.query ELSE (
                SELECT coalesce(string_agg(term, ' | '), '')::tsquery
                FROM (
                  SELECT
                    term,
                    reltuples * sum(coalesce(frequency, 0)) OVER (ORDER BY coalesce(frequency, 0), term) AS rows,
                    row_number() OVER (ORDER BY coalesce(frequency, 0), term) AS place
                  FROM (SELECT DISTINCT regexp_split_to_table(asked.query::text, ' [|] ') AS term) AS terms
                  LEFT JOIN (
                    SELECT quote_literal(word) AS word, frequency
                    FROM
                      pg_stats,
                      unnest(most_common_elems::text::text[], most_common_elem_freqs) AS t (word, frequency)
                    WHERE tablename = {table} AND schemaname = ({namespace}) AND attname = 'words' AND word IS NOT NULL
                  ) AS common ON word = term
                ) AS counted
                WHERE rows <= {RANKED}{keeps}
              ) END
              FROM (SELECT {query} AS query) AS asked
              LEFT JOIN pg_class ON pg_class.oid = to_regclass({literal(identifiers.table)})
            )
        """)


def _near(identifiers: Identifiers, shape: Shape, condition: str) -> str:
    """The candidates by the vectors, whose last part is `near`: at most `$2` rows, in about the right order."""
    distance, columns = _distance(identifiers, shape.metric), f"{_COLUMNS}, embedding"
    itself = "id <> $1::text AND (SELECT vector FROM query) IS NOT NULL" if shape.like else ""
    if condition:
        passing = f"{condition} AND {itself}" if shape.like else condition
        found = _found(identifiers, columns, distance, passing, exact=shape.exact)
    else:
        found = sql_text(f"""
        {_nearest("nearest", identifiers, distance, itself, exact=shape.exact)},
        found AS (
          {_joined(identifiers, columns, _FIRST.format("nearest"))}
        )
        """)
    return sql_text(f"""
        {found},
        near AS MATERIALIZED (
          SELECT * FROM found WHERE {_MEASURED} ORDER BY distance, id
        )
        """)


_MEASURED = "distance IS DISTINCT FROM 'NaN'"


def _fused(identifiers: Identifiers, shape: Shape, condition: str) -> str:
    """The candidates by the words, and both lists as one, with the ranks and the score of each row. By words alone the
    score is the rank that the server computes."""
    both = ", ".join(
        f"coalesce(near.{column}, worded.{column}) AS {column}"
        for column in (*_COLUMNS.split(", ")[1:], "embedding", "distance")
    )
    scores = " + ".join(f"coalesce(1 / ({RECIPROCAL_RANK} + {leg}_rank)::float8, 0)" for leg in ("vector", "text"))
    fused = f"""SELECT id, {both}, vector_rank, text_rank, {scores} AS score
          FROM (
            SELECT *, row_number() OVER (ORDER BY distance, id) AS vector_rank FROM near
          ) AS near
          FULL JOIN (
            SELECT *, row_number() OVER (ORDER BY relevance DESC, distance, id) AS text_rank FROM worded
          ) AS worded USING (id)"""
    if shape.words_alone:
        ranked = "row_number() OVER (ORDER BY relevance DESC, id) AS text_rank, relevance::float8 AS score"
        fused = f"SELECT *, NULL::bigint AS vector_rank, {ranked} FROM worded"
    return sql_text(f"""
        worded AS MATERIALIZED (
          SELECT *
          FROM (
            SELECT {_COLUMNS}, embedding, {_distance(identifiers, shape.metric)} AS distance, relevance
            FROM (
              SELECT *, ts_rank(words, (SELECT wanted FROM query)) AS relevance
              FROM {identifiers.table}
              WHERE words @@ (SELECT wanted FROM query){f" AND {condition}" if condition else ""}
              ORDER BY relevance DESC, id
              LIMIT $2::bigint
            ) AS matching
          ) AS measured
          WHERE {_MEASURED}
        ),
        fused AS (
          {fused}
        )
        """)


def _condition(shape: Shape) -> str:
    """The condition that every hit must pass."""
    conditions = (shape.filter, "NOT words @@ (SELECT excluded FROM query)" if shape.excluding else "")
    return _when_set(" AND ".join(filter(None, conditions)), shape.settings)


def _similarities(identifiers: Identifiers) -> str:
    """A column: the similarity of a row to each of the rows before it. The vectors are normalized once each, which also
    fetches a vector that is stored apart from its row; a zero vector is similar to no other, nor is a missing one."""
    similarity = f"coalesce(-(chosen.direction {identifiers.operator('inner_product')} before.direction), 0)::real"
    listed = f"array_to_json(array_agg({similarity} ORDER BY before.place))::text"
    return f"(SELECT {listed} FROM chosen AS before WHERE before.place < chosen.place) AS similarities"


def walk(identifiers: Identifiers, metric: Metric, starts: int = 12, candidates: int = 20) -> str:
    """Search for the neighbors of a few stored vectors, so that a fresh backend has touched the index's pages.

    A backend maps each page of the shared buffers at its first touch. One search touches some pages, and the next one
    touches others. Many short searches touch more than a few thorough ones. If there is no index for this metric,
    nothing is scanned.
    """
    index = literal(identifiers.relation(f"{identifiers.table_name}.embedding"))
    vectors, halfvecs = (identifiers.operator_class_name(metric, type) for type in ("vector", "halfvec"))
    return sql_text(f"""
        SELECT count(*)
        FROM (
          SELECT embedding
          FROM {identifiers.table}
          WHERE {_HAS_VECTOR} AND EXISTS (
            SELECT FROM pg_index JOIN pg_opclass ON pg_opclass.oid = indclass[0]
            WHERE indexrelid = to_regclass({index}) AND indisvalid AND opcname IN ('{vectors}', '{halfvecs}')
          ) AND set_config('hnsw.ef_search', '{int(candidates)}', true) IS NOT NULL
          LIMIT {int(starts)}
        ) AS start,
        LATERAL (
          SELECT FROM {identifiers.table} AS near
          ORDER BY near.embedding {identifiers.operator(metric)} start.embedding
          LIMIT 5
        ) AS found
        """)

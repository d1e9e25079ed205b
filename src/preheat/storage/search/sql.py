"""Every SQL text that searches a collection, as pure functions of its names and of what is asked for.

Values are bound; the only things pasted into a text are identifiers, quoted, and whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..identifiers import Names, literal
from ..models import Metric
from ..schema.sql import origin
from .text_query import query_sql

__all__ = ("FIRST_OF_CONDITION", "Shape", "filtered_search", "ranked_search", "search", "walk")

FIRST_OF_CONDITION = 6
"""The number of the first placeholder of a condition that a search has."""

_COLUMNS = "id, document, position, text, metadata"

SMALL = 100_000
"""Rows of a table in which comparing all that pass a condition is quicker than letting a scan of the index go on."""

FEW = 50_000
"""How many rows that pass are compared one by one if the index does not yield enough."""

_EF_SEARCH = (
    "set_config('hnsw.ef_search', coalesce($4::text, greatest(current_setting('hnsw.ef_search', true)::bigint, "
    "{least}, least({times} * $2::bigint, 1000))::text), true)"
)
_CANDIDATES = _EF_SEARCH.format(least=100, times=2)  # of pgvector's own 40, too often none is in the right cluster
_CANDIDATES_TO_FILTER = _EF_SEARCH.format(least=200, times=20)
_AS_ASKED = "WHEN $5::text IS NOT NULL THEN set_config('hnsw.iterative_scan', $5::text, true)"
_SETTINGS = (_CANDIDATES, f"CASE {_AS_ASKED} END")

_FOR_THESE_VALUES = "CASE WHEN $2::bigint IS NULL THEN (SELECT count(*) FROM generate_series(1, 1000000000)) END"
"""Null, and never worked out, but too dear for a plan that is to serve all values: how many rows pass, and so which
index helps, is known of the values alone."""


def _settings_to_filter(names: Names) -> tuple[str, ...]:
    rows = f"(SELECT reltuples FROM pg_class WHERE oid = to_regclass({literal(names.table)}))"
    go_on = (  # the setting is null before pgvector 0.8, which cannot
        f"WHEN current_setting('hnsw.iterative_scan', true) = 'off' AND {rows} > {SMALL} "
        "THEN set_config('hnsw.iterative_scan', 'relaxed_order', true)"
    )
    return _CANDIDATES_TO_FILTER, f"CASE {_AS_ASKED} {go_on} END", _FOR_THESE_VALUES


def _query(names: Names, *settings: str) -> str:
    """What is looked for, known before the scan begins; the settings are made on the way."""
    return f"query AS MATERIALIZED (SELECT {', '.join((f'$1::text::{names.type()} AS vector', *settings))})"


def _distance(names: Names, metric: Metric) -> str:
    return f"embedding {names.operator(metric)} (SELECT vector FROM query)"


def _origin(names: Names) -> str:
    return origin(names, "$3::text")


@lru_cache(maxsize=256)
def search(names: Names, metric: Metric, *, exact: bool = False) -> str:
    """The whole search, one statement: `$1` the vector as text, `$2` how many rows, `$3` the collection's name, `$4`
    and `$5` what `hnsw.ef_search` and `hnsw.iterative_scan` are to be while it runs, or null.

    The vector comes out of a subquery, which runs before the scan begins, and sets the two on the way, for this one
    statement: no round trips for `BEGIN`, `SET LOCAL` and `COMMIT`. An exact search is one that no index serves.

    What the collection is rides along in each row; see :func:`preheat.storage.schema.sql.origin`.
    """
    near = _nearest(names, _distance(names, metric), exact=exact)
    return (
        f"WITH {_query(names, *_SETTINGS)}, nearest AS MATERIALIZED ({near}) SELECT found.*, {_origin(names)} "
        f"FROM ({_joined(names, _COLUMNS, _FIRST.format('nearest'))}) AS found ORDER BY distance, id"
    )


_FIRST = "SELECT at, key, distance FROM {} ORDER BY distance, key LIMIT $2::bigint"
"""The `$2` rows that are first, of those that are nearest."""


def _nearest(names: Names, distance: str, condition: str = "", *, exact: bool, rows: str = "$2::bigint") -> str:
    """The places, ids and distances of the rows that are nearest, and of all that are as near as the last one, so that
    which are first does not depend on how they were found. No more than these: a sort of a whole table is quick then.

    An index yields rows in the order of the distance alone; the id is no part of that.
    """
    where = f"WHERE {condition} " if condition else ""
    if exact:
        order = f"ORDER BY ({distance}) + 0, id LIMIT {rows}"  # adding nothing keeps the index out of it
    else:
        order = f"ORDER BY {distance} FETCH FIRST ({rows}) ROWS WITH TIES"
    return f"SELECT ctid AS at, id AS key, {distance} AS distance FROM {names.table} {where}{order}"


@lru_cache(maxsize=256)
def filtered_search(names: Names, metric: Metric, condition: str, *, exact: bool = False) -> str:
    """The search among the rows that pass a condition: the parameters of :func:`search`, then the condition's own.

    :func:`_found` tells how they are found. `short` is true if the index has not yielded enough rows, and more than
    :data:`FEW` pass. There is always a row, without an id if nothing is found.
    """
    ctes = [
        _query(names, *_settings_to_filter(names)),
        *_found(names, _COLUMNS, _distance(names, metric), condition, exact=exact),
    ]
    short = "false" if exact else f"{_PASSED} > {FEW} AND (SELECT count(*) FROM scanned) < $2::bigint"
    return (
        f"WITH {', '.join(ctes)} SELECT found.*, {_origin(names)}, {short} AS short "
        "FROM query LEFT JOIN found ON true ORDER BY distance, id LIMIT $2::bigint"
    )


_PASSED = "(SELECT passed FROM counted)"


def _found(names: Names, columns: str, distance: str, condition: str, *, exact: bool) -> list[str]:
    """Parts of a query, the last of which is `found`: the `$2` rows nearest to the vector that pass a condition.

    An index of vectors knows no conditions. It yields rows in about the right order, the less so the farther away those
    that pass lie; so the answer is trusted if 4 times as many rows are found there as are wanted, or as many as are
    wanted if the caller has said how to scan. The scan of a large table goes on until it has found 8 times as many, if
    pgvector can, or gives up. Otherwise all rows that pass are compared, unless these are more than :data:`FEW`.
    """
    name = names.table
    if exact:
        best = _nearest(names, distance, condition, exact=True)
        return [f"best AS MATERIALIZED ({best})", f"found AS ({_joined(names, columns, 'SELECT * FROM best')})"]
    enough = "CASE WHEN $4::text IS NULL AND $5::text IS NULL THEN 4 * $2::bigint ELSE $2::bigint END"
    return [
        f"scanned AS MATERIALIZED ({_nearest(names, distance, condition, exact=False, rows='8 * $2::bigint')})",
        f"few AS MATERIALIZED (SELECT ctid AS at, id AS key, {distance} AS distance FROM {name} "
        f"WHERE {condition} AND (SELECT count(*) FROM scanned) < {enough} LIMIT {FEW + 1})",
        "counted AS MATERIALIZED (SELECT count(*) AS passed FROM few)",
        f"best AS MATERIALIZED ({_FIRST.format(f'few WHERE {_PASSED} <= {FEW}')})",
        f"first AS MATERIALIZED ({_FIRST.format(f'scanned WHERE {_PASSED} NOT BETWEEN 1 AND {FEW}')})",
        f"found AS ({_joined(names, columns, 'SELECT * FROM best UNION ALL SELECT * FROM first')})",
    ]


def _joined(names: Names, columns: str, rows: str) -> str:
    """Rows that are known by their places, with their columns; the id is needed where a table has several parts."""
    return (
        f"SELECT {columns}, near.distance FROM ({rows}) AS near "
        f"JOIN {names.table} AS chunk ON chunk.ctid = near.at AND chunk.id = near.key"
    )


RECIPROCAL_RANK = 60
"""What is added to a rank before it is inverted; https://doi.org/10.1145/1571941.1572114 (Cormack and others, 2009)."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the text of a ranked search depends on."""

    metric: Metric
    """The distance that is measured."""
    like: bool = False
    """Whether the vector is that of a stored chunk, which is left out."""
    hybrid: bool = False
    """Whether words are looked for, too."""
    excluding: bool = False
    """Whether there are words that no hit may have."""
    diverse: bool = False
    """Whether it is told how similar those that are found are to each other."""
    filter: str = ""
    """The condition on the metadata, if there is one."""
    exact: bool = False
    """Whether no index of the vectors is to serve it."""

    @property
    def first_of_condition(self) -> int:
        """The number of the first placeholder of the condition."""
        return FIRST_OF_CONDITION + 2 * self.hybrid + self.excluding


@lru_cache(maxsize=256)
def ranked_search(names: Names, shape: Shape) -> str:
    """A search that needs more than the order of one index, one statement all the same.

    `$1` is the vector as text, or the id of the chunk whose vector it is; `$2` how many candidates are looked at; `$3`,
    `$4` and `$5` are as in :func:`search`. Then come, for a hybrid search, the words that are looked for and the number
    of rows that are wanted; the words that are excluded, if there are any; and the condition's own parameters.

    In a hybrid search there are `$2` candidates by the vector and as many by the words, in the order of `ts_rank`; both
    are fused by the sum of their reciprocal ranks. Ties are broken by what does not change: where a leg of words is cut
    off by the id, elsewhere by the distance, then the id.

    A diverse search has the column `similarities`: a JSON list of the cosine similarities of a row with each of those
    before it.

    A row whose distance is not a number, as that of a zero vector by cosine, is a candidate of neither.

    There is always a row, without an id if nothing is found. `missing` is true if there is no chunk of that id;
    `nowhere` if its vector is at no distance from itself; `short` if the index has not yielded enough candidates, and
    too many rows pass the condition to be compared.
    """
    condition = _condition(shape)
    distance = _distance(names, shape.metric)
    columns = f"{_COLUMNS}, embedding"
    ctes = [
        _asked(names, shape, _settings_to_filter(names) if condition else _SETTINGS),
        *_near(names, shape, columns, condition),
    ]
    if shape.hybrid:
        by_words = (
            f"SELECT *, ts_rank(words, (SELECT wanted FROM query)) AS relevance FROM {names.table} "
            f"WHERE {' AND '.join(filter(None, ('words @@ (SELECT wanted FROM query)', condition)))} "
            f"ORDER BY relevance DESC, id LIMIT $2::bigint"
        )
        both = ", ".join(
            f"coalesce(near.{column}, worded.{column}) AS {column}"
            for column in (*_COLUMNS.split(", ")[1:], "embedding", "distance")
        )
        score = " + ".join(f"coalesce(1 / ({RECIPROCAL_RANK} + {leg}_rank)::float8, 0)" for leg in ("vector", "text"))
        ctes += [
            f"worded AS MATERIALIZED (SELECT * FROM (SELECT {columns}, {distance} AS distance, relevance "
            f"FROM ({by_words}) AS matching) AS measured WHERE {_MEASURED})",
            f"fused AS (SELECT id, {both}, vector_rank, text_rank, {score} AS score "
            "FROM (SELECT *, row_number() OVER (ORDER BY distance, id) AS vector_rank FROM near) AS near FULL JOIN "
            "(SELECT *, row_number() OVER (ORDER BY relevance DESC, distance, id) AS text_rank FROM worded) AS worded "
            "USING (id))",
        ]
    source, best, limit = (
        ("fused", "score DESC, distance, id", " LIMIT $7::bigint") if shape.hybrid else ("near", "distance, id", "")
    )
    direction = f", {names.function('l2_normalize')}(embedding::{names.type()}) AS direction" if shape.diverse else ""
    ctes.append(
        f"chosen AS MATERIALIZED (SELECT *, row_number() OVER (ORDER BY {best}) AS place{direction} FROM {source} "
        f"ORDER BY place{limit})"
    )
    shown = ["id, document, position, text, metadata, distance"]
    if shape.hybrid:
        shown.append("vector_rank, text_rank, score")
    if shape.diverse:
        shown.append(_similarities(names))
    short = (
        f"{_PASSED} > {FEW} AND (SELECT count(*) FROM near) < $2::bigint" if condition and not shape.exact else "false"
    )
    itself = f"query.vector {names.operator(shape.metric)} query.vector = 'NaN'" if shape.like else "false"
    shown += [_origin(names), f"{short} AS short", "query.vector IS NULL AS missing", f"{itself} AS nowhere"]
    return f"WITH {', '.join(ctes)} SELECT {', '.join(shown)} FROM query LEFT JOIN chosen ON true ORDER BY place"


def _asked(names: Names, shape: Shape, settings: tuple[str, ...]) -> str:
    """What is looked for by a ranked search."""
    own = f"(SELECT embedding FROM {names.table} WHERE id = $1::text)"
    columns = [f"{own if shape.like else f'$1::text::{names.type()}'} AS vector"]
    language = f"(SELECT language::regconfig FROM {names.registry} WHERE name = $3::text)"
    if shape.hybrid:
        columns.append(f"{query_sql(language, '$6::text')} AS wanted")
    if shape.excluding:
        columns.append(f"{query_sql(language, f'${shape.first_of_condition - 1}::text')} AS excluded")
    return f"query AS MATERIALIZED (SELECT {', '.join((*columns, *settings))})"


def _near(names: Names, shape: Shape, columns: str, condition: str) -> list[str]:
    """The leg of the vectors, whose last part is `near`: at most `$2` rows, in about the right order."""
    distance = _distance(names, shape.metric)
    itself = "id <> $1::text AND (SELECT vector FROM query) IS NOT NULL" if shape.like else ""
    if condition:
        passing = f"{condition} AND {itself}" if shape.like else condition
        found = _found(names, columns, distance, passing, exact=shape.exact)
    else:
        nearest = _nearest(names, distance, itself, exact=shape.exact)
        found = [
            f"nearest AS MATERIALIZED ({nearest})",
            f"found AS ({_joined(names, columns, _FIRST.format('nearest'))})",
        ]
    return [*found, f"near AS MATERIALIZED (SELECT * FROM found WHERE {_MEASURED} ORDER BY distance, id)"]


_MEASURED = "distance <> 'NaN'"


def _condition(shape: Shape) -> str:
    """What every hit must pass."""
    conditions = (shape.filter, "NOT words @@ (SELECT excluded FROM query)" if shape.excluding else "")
    return " AND ".join(filter(None, conditions))


def _similarities(names: Names) -> str:
    """How similar a row is to each of those before it: normalized once each, as that also fetches a vector that lies
    apart from its row, and a zero vector is similar to none."""
    similarity = f"(-(chosen.direction {names.operator('inner_product')} before.direction))::real"
    listed = f"array_to_json(array_agg({similarity} ORDER BY before.place))::text"
    return f"(SELECT {listed} FROM chosen AS before WHERE before.place < chosen.place) AS similarities"


def walk(names: Names, metric: Metric, starts: int = 12, candidates: int = 20) -> str:
    """Search for the neighbors of a few stored vectors, so that a fresh backend has touched the index's pages.

    A backend maps each page of the shared buffers at its first touch. One search touches some; its neighbors next
    time touch others. Many short searches touch more than a few thorough ones. Without an index for this metric there
    is nothing to walk, and nothing is scanned.
    """
    name = names.table
    index = literal(names.relation(f"{names.table_name}.embedding"))
    classes = f"('{names.operator_class_name(metric, 'vector')}', '{names.operator_class_name(metric, 'halfvec')}')"
    indexed = (
        f"EXISTS (SELECT FROM pg_index JOIN pg_opclass ON pg_opclass.oid = indclass[0] "
        f"WHERE indexrelid = to_regclass({index}) AND indisvalid AND opcname IN {classes})"
    )
    short = f"set_config('hnsw.ef_search', '{int(candidates)}', true) IS NOT NULL"
    nearest = f"SELECT FROM {name} AS near ORDER BY near.embedding {names.operator(metric)} start.embedding LIMIT 5"
    start = f"SELECT embedding FROM {name} WHERE {indexed} AND {short} LIMIT {int(starts)}"
    return f"SELECT count(*) FROM ({start}) AS start, LATERAL ({nearest}) AS found"

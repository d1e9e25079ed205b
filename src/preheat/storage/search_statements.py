"""Every SQL text that searches a collection, as pure functions of its names and of what is asked for.

Values are bound; the only things pasted into a text are identifiers, quoted, and whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from .names import Names, literal
from .records import Metric

__all__ = ("FIRST_OF_CONDITION", "Shape", "filtered_search", "ranked_search", "search", "walk")

FIRST_OF_CONDITION = 6
"""The number of the first placeholder of a condition that a search has."""

_EF_SEARCH = "CASE WHEN $4::text IS NOT NULL THEN set_config('hnsw.ef_search', $4::text, true) END"
_AS_ASKED = "WHEN $5::text IS NOT NULL THEN set_config('hnsw.iterative_scan', $5::text, true)"
_OR_GO_ON = (  # the setting is null before pgvector 0.8, which cannot
    "WHEN current_setting('hnsw.iterative_scan', true) = 'off' "
    "THEN set_config('hnsw.iterative_scan', 'strict_order', true)"
)


def _query(names: Names, iterative_scan: str) -> str:
    settings = f"{_EF_SEARCH}, CASE {iterative_scan} END"
    return f"WITH query AS MATERIALIZED (SELECT $1::text::{names.type()} AS vector, {settings})"


def _distance(names: Names, metric: Metric) -> str:
    return f"embedding {names.operator(metric)} (SELECT vector FROM query)"


def _origin(names: Names) -> str:
    what = "metric || ' ' || coalesce(embedder, '')"
    return f"(SELECT {what} FROM {names.registry} WHERE name = $3::text) AS origin"


@lru_cache(maxsize=256)
def search(names: Names, metric: Metric, *, exact: bool = False) -> str:
    """The whole search, one statement: `$1` the vector as text, `$2` how many rows, `$3` the collection's name, `$4`
    and `$5` what `hnsw.ef_search` and `hnsw.iterative_scan` are to be while it runs, or null.

    The vector comes out of a subquery, which runs before the scan begins, and sets the two on the way, for this one
    statement: no round trips for `BEGIN`, `SET LOCAL` and `COMMIT`. An exact search is one that no index serves.

    What the collection is, its metric and its model with a space between, rides along in each row, so that it is known
    without a round trip of its own.
    """
    distance = _distance(names, metric)
    return (
        f"{_query(names, _AS_ASKED)} SELECT id, document, position, text, metadata, {distance} AS distance, "
        f"{_origin(names)} FROM {names.table} "
        f"ORDER BY {f'({distance}) + 0' if exact else distance} LIMIT $2::bigint"
    )


@lru_cache(maxsize=256)
def filtered_search(names: Names, metric: Metric, condition: str, *, exact: bool = False) -> str:
    """The search among the rows that pass a condition: the parameters of :func:`search`, then the condition's own.

    A scan of the index that has run out of candidates goes on, if pgvector can and nobody has said otherwise. It may
    give up all the same. Then, and only then, the column `matching` tells how many rows pass, as far as `$2`; without a
    hit it stands in a row that has no id. Relaxed order is put right.
    """
    name, distance = names.table, _distance(names, metric)
    short = "(SELECT count(*) FROM near) < $2::bigint"
    matching = f"SELECT count(*) FROM (SELECT FROM {name} WHERE {condition} LIMIT $2::bigint) AS passed"
    told = "NULL" if exact else f"CASE WHEN {short} THEN ({matching}) END"
    return (
        f"{_query(names, f'{_AS_ASKED} {_OR_GO_ON}')}, near AS MATERIALIZED ("
        f"SELECT id, document, position, text, metadata, {distance} AS distance FROM {name} "
        f"WHERE {condition} ORDER BY {f'({distance}) + 0' if exact else distance} LIMIT $2::bigint) "
        f"SELECT near.*, {_origin(names)}, {told} AS matching "
        f"FROM query LEFT JOIN near ON true ORDER BY distance"
    )


RECIPROCAL_RANK = 60
"""What is added to a rank before it is inverted; https://doi.org/10.1145/1571941.1572114 (Cormack and others, 2009)."""

_COLUMNS = ("document", "position", "text", "metadata", "embedding", "distance")


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
    are fused by the sum of their reciprocal ranks. A chunk need not have all of the words: `&` becomes `|`. Ties are
    broken by what does not change: where a leg of words is cut off by the id, elsewhere by the distance, then the id.

    A diverse search has the column `similarities`: a JSON list of the cosine similarities of a row with each of those
    before it.

    There is always a row, without an id if nothing is found. `missing` is true if there is no chunk of that id; `short`
    if a scan of the index gave up before it had found as many candidates as there are.
    """
    vector_conditions, word_conditions = _conditions(shape)
    distance = _distance(names, shape.metric)
    columns = f"id, document, position, text, metadata, embedding, {distance} AS distance"
    ctes = [_asked(names, shape, bool(vector_conditions)), _near(names, shape, columns, vector_conditions)]
    if shape.hybrid:
        by_words = (
            f"SELECT *, ts_rank(words, (SELECT wanted FROM query)) AS relevance FROM {names.table} "
            f"WHERE {word_conditions} ORDER BY relevance DESC, id LIMIT $2::bigint"
        )
        both = ", ".join(f"coalesce(near.{column}, worded.{column}) AS {column}" for column in _COLUMNS)
        score = " + ".join(f"coalesce(1 / ({RECIPROCAL_RANK} + {leg}_rank)::float8, 0)" for leg in ("vector", "text"))
        ctes += [
            f"worded AS MATERIALIZED (SELECT {columns}, relevance FROM ({by_words}) AS matching)",
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
    shown += [_origin(names), f"{_short(names, shape, vector_conditions)} AS short"]
    shown.append("query.vector IS NULL AS missing")
    return f"WITH {', '.join(ctes)} SELECT {', '.join(shown)} FROM query LEFT JOIN chosen ON true ORDER BY place"


def _asked(names: Names, shape: Shape, goes_on: bool) -> str:
    """What is looked for, known before the scan begins; the settings are made on the way."""
    own = f"(SELECT embedding FROM {names.table} WHERE id = $1::text)"
    columns = [f"{own if shape.like else f'$1::text::{names.type()}'} AS vector"]
    language = f"(SELECT language::regconfig FROM {names.registry} WHERE name = $3::text)"
    if shape.hybrid:
        words = f"websearch_to_tsquery({language}, $6::text)::text"
        columns.append(f"nullif(replace({words}, ' & ', ' | '), '')::tsquery AS wanted")
    if shape.excluding:
        columns.append(f"websearch_to_tsquery({language}, ${shape.first_of_condition - 1}::text) AS excluded")
    columns += [_EF_SEARCH, f"CASE {_AS_ASKED} {_OR_GO_ON if goes_on else ''} END"]
    return f"query AS MATERIALIZED (SELECT {', '.join(columns)})"


def _near(names: Names, shape: Shape, columns: str, condition: str) -> str:
    """The leg of the vectors: at most `$2` rows, in about the right order."""
    distance = _distance(names, shape.metric)
    order = f"({distance}) + 0, id" if shape.exact else distance
    where = f"WHERE {condition} " if condition else ""
    return f"near AS MATERIALIZED (SELECT {columns} FROM {names.table} {where}ORDER BY {order} LIMIT $2::bigint)"


def _conditions(shape: Shape) -> tuple[str, str]:
    """What a row must pass to be found by its vector, and by its words."""
    every = [shape.filter] if shape.filter else []
    if shape.excluding:
        every.append("NOT words @@ (SELECT excluded FROM query)")
    if shape.like:
        every += ["id <> $1::text", "(SELECT vector FROM query) IS NOT NULL"]
    return " AND ".join(every), " AND ".join(["words @@ (SELECT wanted FROM query)", *every])


def _similarities(names: Names) -> str:
    """How similar a row is to each of those before it: normalised once each, as that also fetches a vector that lies
    apart from its row, and a zero vector is similar to none."""
    similarity = f"(-(chosen.direction {names.operator('inner_product')} before.direction))::real"
    listed = f"array_to_json(array_agg({similarity} ORDER BY before.place))::text"
    return f"(SELECT {listed} FROM chosen AS before WHERE before.place < chosen.place) AS similarities"


def _short(names: Names, shape: Shape, condition: str) -> str:
    if shape.exact or not condition:
        return "false"
    found = "(SELECT count(*) FROM near)"
    passing = f"(SELECT count(*) FROM (SELECT FROM {names.table} WHERE {condition} LIMIT $2::bigint) AS passed)"
    return f"CASE WHEN {found} < $2::bigint THEN {found} < {passing} ELSE false END"


def walk(names: Names, metric: Metric, starts: int = 12, candidates: int = 20) -> str:
    """Search for the neighbours of a few stored vectors, so that a fresh backend has touched the index's pages.

    A backend maps each page of the shared buffers at its first touch. One search touches some; its neighbours next
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

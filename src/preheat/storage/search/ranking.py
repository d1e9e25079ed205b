"""Turn the rows of a search into hits, and choose among them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from ...pools import Row
from ..models import Hit, Metric
from .options import SearchOptions

_parsed = json.JSONDecoder().raw_decode  # jsonb's text has no space around it, for which json.loads() would look


def hits(rows: Sequence[Row], metric: Metric, asked: SearchOptions) -> list[Hit]:
    """The hits of a search: the rows with at least `min_score`, and with `mmr` the choice among them.

    Rows whose distance is not a number are left out: pgvector computes no cosine of a zero vector.
    """
    found: list[Hit] = []
    for row in rows:
        distance: float = row["distance"]
        if math.isnan(distance):
            continue
        metadata: str = row["metadata"]
        ranks: tuple[int | None, ...] = () if asked.text_query is None else (row["vector_rank"], row["text_rank"])
        found.append(
            Hit(
                row["id"],
                row["text"],
                row["score"] if ranks else score(metric, distance),
                distance,
                row["document"],
                row["position"],
                {} if metadata == "{}" else _parsed(metadata)[0],
                *ranks,
            )
        )
    if asked.min_score is None and asked.mmr is None:
        return found
    return _chosen(found, rows, metric, asked)


def _chosen(found: Sequence[Hit], rows: Sequence[Row], metric: Metric, asked: SearchOptions) -> list[Hit]:
    kept = [at for at, hit in enumerate(found) if asked.min_score is None or hit.score >= asked.min_score]
    if asked.mmr is not None:
        similar = similarities([row["similarities"] for row in rows], kept)
        relevance = relevances([found[at] for at in kept], are_cosines=asked.text_query is None and metric == "cosine")
        kept = [kept[at] for at in diverse(relevance, similar, asked.k, asked.mmr)]
    return [found[at] for at in kept]


def relevances(found: Sequence[Hit], *, are_cosines: bool) -> list[float]:
    """The relevance of hits, comparable with their similarities: the score if it is a cosine, otherwise the score
    divided by the best one."""
    scores = [hit.score for hit in found]
    best = 1.0 if are_cosines else max(map(abs, scores), default=0.0)
    return [score / best for score in scores] if best else scores


def similarities(told: Sequence[str | None], kept: Sequence[int]) -> list[list[float]]:
    """The similarities of each row that is kept to those before it, from the JSON lists of all rows."""
    listed: list[list[float]] = [json.loads(told[at] or "[]") for at in kept]
    return [[row[before] for before in kept[:place]] for place, row in enumerate(listed)]


def diverse(relevance: Sequence[float], similarities: Sequence[Sequence[float]], k: int, mmr: float) -> list[int]:
    """Choose `k` items by maximal marginal relevance, and return their indexes in the order of choosing.

    https://doi.org/10.1145/290941.291025 (Carbonell and Goldstein, 1998). Each time the item with the greatest
    `mmr * relevance - (1 - mmr) * similarity` is chosen, where the similarity is the greatest one to an item that is
    chosen already. Of equal items the first is chosen.

    Args:
        relevance: one number for each item, best first.
        similarities: the similarities of each item to all before it: 0 numbers for the first, 1 for the second, and so
            on.
        k: how many items.
        mmr: 1 is relevance alone, 0 is novelty alone.
    """
    remaining = list(range(len(relevance)))
    most_like: list[float] = []  # the greatest similarity to an item that is chosen
    chosen: list[int] = []
    while remaining and len(chosen) < k:
        if not chosen:
            next_one = max(remaining, key=lambda at: mmr * relevance[at])
            most_like = [-math.inf] * len(relevance)
        else:
            next_one = max(remaining, key=lambda at: mmr * relevance[at] - (1 - mmr) * most_like[at])
        chosen.append(next_one)
        remaining.remove(next_one)
        for at in remaining:
            similarity = similarities[at][next_one] if next_one < at else similarities[next_one][at]
            most_like[at] = max(most_like[at], similarity)
    return chosen


def score(metric: Metric, distance: float) -> float:
    """The score for a distance: higher is better."""
    if metric == "cosine":
        return 1.0 - distance
    if metric == "l2":
        return 1.0 / (1.0 + distance)
    return -distance

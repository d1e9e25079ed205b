"""Rows of a search as hits, and the choice among them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from ...pools import Row
from ..models import Hit, Metric
from .options import SearchOptions

__all__ = ("chosen", "diverse", "hits", "ranked_hits", "relevances", "score", "similarities")

_parsed = json.JSONDecoder().raw_decode  # jsonb's text has no space around it, for which json.loads() would look


def hits(rows: Sequence[Row], metric: Metric) -> list[Hit]:
    """The rows of a search as hits, but for those whose distance is not a number: a zero vector is near to nothing by
    cosine."""
    found: list[Hit] = []
    for row in rows:
        distance: float = row["distance"]
        if math.isnan(distance):
            continue
        metadata: str = row["metadata"]
        found.append(
            Hit(
                row["id"],
                row["text"],
                score(metric, distance),
                distance,
                row["document"],
                row["position"],
                {} if metadata == "{}" else _parsed(metadata)[0],
            )
        )
    return found


def ranked_hits(rows: Sequence[Row], metric: Metric) -> list[Hit]:
    """The rows of a hybrid search as hits, with both ranks and the score that is made of them."""
    return [
        Hit(
            hit.id,
            hit.text,
            row["score"],
            hit.distance,
            hit.document,
            hit.position,
            hit.metadata,
            row["vector_rank"],
            row["text_rank"],
        )
        for row, hit in zip(rows, hits(rows, metric), strict=True)
    ]


def relevances(found: Sequence[Hit], *, are_cosines: bool) -> list[float]:
    """How relevant hits are, in the terms of how similar they are to each other: scores that are no cosines count as
    shares of the best one."""
    scores = [hit.score for hit in found]
    best = 1.0 if are_cosines else max(map(abs, scores), default=0.0)
    return [score / best for score in scores] if best else scores


def similarities(told: Sequence[str | None], kept: Sequence[int]) -> list[list[float]]:
    """How similar each of the rows that are kept is to those before it, out of what all rows tell as JSON."""
    listed: list[list[float]] = [json.loads(told[at] or "[]") for at in kept]
    return [[row[before] for before in kept[:place]] for place, row in enumerate(listed)]


def diverse(relevance: Sequence[float], similarities: Sequence[Sequence[float]], k: int, mmr: float) -> list[int]:
    """Which `k` to choose for their maximal marginal relevance, in the order of choosing.

    https://doi.org/10.1145/290941.291025 (Carbonell and Goldstein, 1998): again and again the one with the greatest
    `mmr * relevance - (1 - mmr) * similarity`, the latter to that one of those chosen before which is most like it.
    Of equals the first is taken.

    Args:
        relevance: one number each, best first.
        similarities: of each to all before it: 0 numbers for the first, 1 for the second, and so on.
        k: how many.
        mmr: 1 is relevance alone, 0 is novelty alone.
    """
    remaining = list(range(len(relevance)))
    most_like: list[float] = []  # the similarity to whichever of those chosen is nearest
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


def chosen(rows: Sequence[Row], metric: Metric, asked: SearchOptions) -> list[Hit]:
    """The rows of a search as hits: those with the least score that is asked for, and among them the choice for their
    maximal marginal relevance."""
    found = hits(rows, metric) if asked.words is None else ranked_hits(rows, metric)
    if asked.min_score is None and asked.mmr is None:
        return found
    kept = [at for at, hit in enumerate(found) if asked.min_score is None or hit.score >= asked.min_score]
    if asked.mmr is not None:
        similar = similarities([row["similarities"] for row in rows], kept)
        relevance = relevances([found[at] for at in kept], are_cosines=asked.words is None and metric == "cosine")
        kept = [kept[at] for at in diverse(relevance, similar, asked.k, asked.mmr)]
    return [found[at] for at in kept]


def score(metric: Metric, distance: float) -> float:
    """The score for a distance: higher is better."""
    if metric == "cosine":
        return 1.0 - distance
    if metric == "l2":
        return 1.0 / (1.0 + distance)
    return -distance

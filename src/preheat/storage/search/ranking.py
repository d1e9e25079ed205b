"""Choose among hits, so that they differ from each other."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from ..models import Hit


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

"""The two tables of a run: what each mode finds, and at which rank each question has its answer."""

from __future__ import annotations

from benchmarks.report.layout import Cell, Table, Tone
from benchmarks.scenarios.quality.measure import FIRST, HITS, Answered, Mode, Quality

__all__ = ("by_mode", "by_question")


def by_mode(quality: Quality) -> Table:
    """Each mode with its figures; the best of a column stands out."""
    modes = quality.modes
    best = Mode(
        "",
        0,
        max(mode.first for mode in modes),
        max(mode.first_three for mode in modes),
        max(mode.strictly for mode in modes),
        max(mode.reciprocal_rank for mode in modes),
    )
    return Table(
        "modes",
        f"{len(quality.answered)} questions to {quality.topics} topics in {quality.chunks} chunks",
        ("searched by", "first hit", "first three", "strictly", "mean 1/rank"),
        tuple(
            (
                Cell(mode.name),
                _count(mode.first, best.first, mode.questions),
                _count(mode.first_three, best.first_three, mode.questions),
                _count(mode.strictly, best.strictly, mode.questions),
                Cell(f"{mode.reciprocal_rank:.2f}", tone=_tone(mode.reciprocal_rank >= best.reciprocal_rank)),
            )
            for mode in modes
        ),
        f"Questions whose answer is in the first hit, or in one of the first three; strictly: a chapter that holds the "
        f"topic beside others counts only with the topic's own words. Python {quality.python}.",
    )


def by_question(quality: Quality) -> Table:
    """Each question with the rank of its answer in each mode."""
    return Table(
        "questions",
        "The rank of the first hit with the answer",
        ("question", *(mode.name for mode in quality.modes)),
        tuple(_row(answered) for answered in quality.answered),
        f"Green: among the first {FIRST}. A dash: not among the first {HITS}.",
    )


def _row(answered: Answered) -> tuple[Cell, ...]:
    return (
        Cell(answered.question.text),
        *(
            Cell("–" if rank is None else str(rank), tone="missed" if rank is None or rank > FIRST else "kept")
            for rank in answered.ranks.values()
        ),
    )


def _count(value: int, best: int, questions: int) -> Cell:
    return Cell(str(value), f"{value / questions:.0%}", tone=_tone(value >= best))


def _tone(good: bool) -> Tone:
    return "best" if good else "plain"

from __future__ import annotations

import pytest
from benchmarks.scenarios.quality.__main__ import write
from benchmarks.scenarios.quality.measure import Answered, Quality
from benchmarks.scenarios.quality.questions import QUESTIONS, Question
from benchmarks.scenarios.quality.reference import Reference, reference
from benchmarks.scenarios.quality.tables import by_mode, by_question

from preheat import Hit

BOOK = Reference(
    {
        "break": "The break statement\nends the loop.",
        "loops": "A loop repeats.  The break\n   statement ends the\nloop. Loops nest.",
        "while": "A loop that break leaves early.",
        "pass": "Nothing happens.",
    }
)
QUESTION = Question("How do I leave a loop?", {"break": "ends the loop", "while": "leaves early"})


def hit(document: str, text: str = "something else") -> Hit:
    return Hit("", text, 0.0, 0.0, document, 0, {})


def answered(**ranks: int | None) -> Answered:
    return Answered(QUESTION, dict(ranks), dict(ranks))


def test_there_are_forty_different_questions_about_different_topics():
    assert len({question.text for question in QUESTIONS}) == 40
    assert len({next(iter(question.answers)) for question in QUESTIONS}) == 40


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: next(iter(question.answers)))
def test_the_words_that_answer_a_question_stand_in_its_topics(question):
    for topic, words in question.answers.items():
        assert words in " ".join(reference().topics[topic].split())


def test_a_chapter_that_prints_a_topic_again_answers_its_questions():
    assert BOOK.answering(QUESTION) == {"break", "loops", "while"}


def test_the_rank_is_that_of_the_first_hit_with_an_answer():
    assert BOOK.rank(QUESTION, [hit("pass"), hit("loops"), hit("break")]) == 2
    assert BOOK.rank(QUESTION, [hit("pass")]) is None
    assert BOOK.rank(QUESTION, []) is None


def test_strictly_a_chapter_counts_only_with_the_words_of_the_topic():
    chapter = [hit("loops", "Loops nest."), hit("loops", "The break statement ends the loop.")]
    assert BOOK.strict_rank(QUESTION, chapter) == 2
    assert BOOK.strict_rank(QUESTION, chapter[:1]) is None
    assert BOOK.strict_rank(QUESTION, [hit("pass"), hit("while", "Anything.")]) == 2


@pytest.fixture
def quality() -> Quality:
    ranks = [(1, 4, 1), (3, 1, 2), (None, 1, 1), (None, None, 5)]
    return Quality("3.13.0", 4, 9, tuple(answered(vectors=v, words=w, hybrid=h) for v, w, h in ranks))


def test_figures_of_a_mode(quality):
    assert quality.mode("vectors").as_dict() == {
        "mode": "vectors",
        "questions": 4,
        "first": 1,
        "first_three": 2,
        "first_three_strictly": 2,
        "mean_reciprocal_rank": (1 + 1 / 3) / 4,
    }


def test_the_best_of_a_column_stands_out(quality):
    table = by_mode(quality)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["vectors", "1", "2", "2", "0.33"],
        ["words", "2", "2", "2", "0.56"],
        ["hybrid", "2", "3", "3", "0.68"],
    ]
    assert [[cell.tone for cell in row[1:]] for row in table.rows] == [
        ["plain"] * 4,
        ["best", "plain", "plain", "plain"],
        ["best"] * 4,
    ]


def test_each_question_has_its_ranks(quality):
    rows = by_question(quality).rows
    assert [(cell.text, cell.tone) for cell in rows[0][1:]] == [("1", "kept"), ("4", "missed"), ("1", "kept")]
    assert [(cell.text, cell.tone) for cell in rows[3][1:]] == [("–", "missed"), ("–", "missed"), ("5", "missed")]


def test_the_docs_have_both_tables(quality, tmp_path):
    write(quality, tmp_path / "quality")
    assert "| hybrid |" in (tmp_path / "quality" / "modes.md").read_text(encoding="utf-8")
    assert "| How do I leave a loop? |" in (tmp_path / "quality" / "questions.md").read_text(encoding="utf-8")

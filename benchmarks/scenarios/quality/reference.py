"""The standard library's language reference: what is searched, and where in it a question is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.scenarios.quality.questions import Question
from preheat import Hit, ResearchRetriever

__all__ = ("Reference", "reference")


class Reference:
    """The topics of a reference, by their keys.

    Some topics are chapters that print others again: `compound` has all of `for` in it. So a question is answered by
    every topic in which the words of one of its answers stand.
    """

    def __init__(self, topics: Mapping[str, str]) -> None:
        self.topics = topics
        self._words = {topic: _words(text) for topic, text in topics.items()}

    async def store(self, retriever: ResearchRetriever) -> int:
        """Store each topic as a document, as `preheat demo` does, and return how many chunks they gave."""
        return sum([await retriever.add(topic, text) for topic, text in self.topics.items()])

    def answering(self, question: Question) -> frozenset[str]:
        """The topics that answer a question, chapters among them."""
        answers = question.answers.values()
        return frozenset(topic for topic, words in self._words.items() if any(answer in words for answer in answers))

    def rank(self, question: Question, hits: Sequence[Hit]) -> int | None:
        """The place, from 1, of the first hit whose document is a topic that answers the question."""
        answering = self.answering(question)
        return next((place for place, hit in enumerate(hits, 1) if hit.document in answering), None)

    def strict_rank(self, question: Question, hits: Sequence[Hit]) -> int | None:
        """The same, but a hit in a chapter counts only if its text stands in a topic of the question, word for word."""
        for place, hit in enumerate(hits, 1):
            if hit.document in question.answers:
                return place
            if any(_words(hit.text) in self._words[topic] for topic in question.answers):
                return place
        return None


def reference() -> Reference:
    """The reference that comes with this Python."""
    from pydoc_data.topics import topics

    return Reference(topics)


def _words(text: str) -> str:
    """The text without its line breaks and indents, which differ from version to version."""
    return " ".join(text.split())

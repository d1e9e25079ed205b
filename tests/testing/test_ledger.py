"""The checks of `just soak` notice the faults that they are there for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.soak import EVENTS, plan
from tests.support.ledger import Ledger, chunks_of, growth, is_expected, mistakes_of, name_of

from preheat import Chunk, CollectionBusyError, CollectionNotFoundError, ConnectError, DatabaseError, Hit, PoolBusyError
from preheat.pools import PoolStatistics

SOUND = PoolStatistics("p", 10, 3, 2, 1, 0, 4, 9, 1, 3, 7, 0.5, 8, 1.5)


@pytest.fixture
def ledger() -> Ledger:
    """Documents 1 and 2 are stored, 3 may be, and 4 is deleted."""
    ledger = Ledger()
    for number in (1, 2, 3, 4):
        assert ledger.storing() == number
        if number != 3:
            ledger.has_stored(number, len(chunks_of(number)))
    ledger.deleting(4)
    ledger.has_deleted(4, len(chunks_of(4)))
    return ledger


def hit(chunk: Chunk, **changed: str) -> Hit:
    return replace(Hit(chunk.id, chunk.text, 1.0, 0.0, chunk.document, chunk.position, {}), **changed)


def everything(*numbers: int) -> list[Chunk]:
    return [chunk for number in numbers for chunk in chunks_of(number)]


def test_right_answers_are_no_faults(ledger: Ledger) -> None:
    asked, other = chunks_of(1)[0], chunks_of(3)[0]
    ledger.check_hits(asked, [hit(asked), hit(other)], ledger.now, is_stored=True)
    ledger.check_document(2, chunks_of(2))
    ledger.check_all(everything(1, 2))
    ledger.check_all(everything(1, 2, 3))
    assert ledger.stored == [1, 2]
    assert ledger.faults == []


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (lambda ledger: ledger.check_all(everything(1)), "document 2 was acknowledged, and 0 of its 3 chunks"),
        (lambda ledger: ledger.check_all(everything(1, 2)[:-1]), "document 2 was acknowledged, and 2 of its 3"),
        (lambda ledger: ledger.check_all(everything(1, 2, 3)[:-1]), "document 3 is there in part: 3 of its 4 chunks"),
        (lambda ledger: ledger.check_all(everything(1, 2, 4)), "4.0 was found after its deletion"),
        (lambda ledger: ledger.check_all(everything(1, 2, 9)), "was never stored"),
        (lambda ledger: ledger.check_document(2, chunks_of(2)[1:]), "document 2 was acknowledged, and 2 of"),
        (lambda ledger: search(ledger, 1), "found nothing first"),
        (lambda ledger: search(ledger, 1, hit(chunks_of(2)[0])), "found 2.0 first"),
        (lambda ledger: search(ledger, 1, *map(hit, everything(1, 4))), "4.0 was found after its deletion"),
        (lambda ledger: search(ledger, 1, hit(chunks_of(1)[0], text="other")), "with the text 'other'"),
        (lambda ledger: ledger.has_stored(3, 1), "says that it wrote 1 chunks of document 3, not 4"),
        (lambda ledger: ledger.has_deleted(2, 0), "says that it deleted 0 chunks of document 2, not 3"),
    ],
)
def test_a_planted_fault_is_noticed(ledger: Ledger, plant: Callable[[Ledger], None], sentence: str) -> None:
    plant(ledger)
    assert any(sentence in fault for fault in ledger.faults)


def search(ledger: Ledger, number: int, *hits: Hit) -> None:
    ledger.check_hits(chunks_of(number)[0], hits, ledger.now, is_stored=True)


def test_a_search_that_began_before_a_deletion_may_find_the_chunk(ledger: Ledger) -> None:
    asked = chunks_of(1)[0]
    ledger.check_hits(asked, [hit(asked), hit(chunks_of(4)[0])], ledger.now - 1, is_stored=True)
    assert ledger.faults == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectError("db", "it is down", "start it", transient=True), True),
        (PoolBusyError("db", "it is full", "wait"), True),
        (ConnectError("db", "wrong password", "give another", sqlstate="28P01"), False),
        (CollectionBusyError("it is locked", "try again", sqlstate="40P01"), True),
        (DatabaseError("it took too long", "ask for less", sqlstate="57014"), True),
        (DatabaseError("no such table", "create it", sqlstate="42P01"), False),
        (CollectionNotFoundError("no collection"), False),
        (ConnectionResetError("it was reset"), False),
    ],
)
def test_only_errors_that_faults_explain_are_expected(error: Exception, expected: bool) -> None:
    assert is_expected(error) == expected
    assert type(error).__name__ in name_of(error)


@pytest.mark.parametrize(
    ("changed", "mistakes"),
    [
        ({}, 0),
        ({"lost": 4}, 1),
        ({"connecting": 6}, 1),
        ({"waits": 7}, 1),
        ({"opened": 8}, 2),
    ],
)
def test_statistics_that_do_not_add_up_are_noticed(changed: dict[str, int], mistakes: int) -> None:
    assert len(mistakes_of(replace(SOUND, **changed), SOUND)) == mistakes


def test_growth_is_seen_after_the_start_alone() -> None:
    assert growth([10, 50, 90, 100, 101, 99, 100, 100]) == 5
    assert growth([10, 90, 100, 200, 300, 400, 500, 600]) == 400
    assert growth([7]) == 0


def test_a_plan_has_restarts_and_one_fail_over_and_depends_on_the_seed_alone() -> None:
    steps = plan(600, seed=1)
    kinds = [step.kind for step in steps]
    assert steps == plan(600, seed=1) != plan(600, seed=2)
    assert set(kinds) == {*EVENTS, "restart", "fail-over"}
    assert kinds.count("fail-over") == 1
    assert kinds.count("restart") == 2
    assert sum(step.pause + step.hold for step in steps[:-1]) < 600


def test_a_short_plan_has_all_of_them_too() -> None:
    kinds = [step.kind for step in plan(10, seed=3)]
    assert [kind for kind in kinds if kind not in EVENTS] == ["restart", "fail-over", "restart"]

"""Attempts that overtake each other, on virtual time: asyncio-flavored, as the driver is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal

from hypothesis import given
from hypothesis import strategies as st

from preheat.pools.network.staggered import first_success
from preheat.testing import cancel_everywhere, run

Outcome = Literal["opens", "fails", "is final", "hangs"]


class FinalError(Exception):
    """No further attempt is worth it."""


class Servers:
    """Servers with an outcome each, after so many seconds; what they open is counted."""

    def __init__(self, *outcomes: tuple[Outcome, float]) -> None:
        self.outcomes = outcomes
        self.started: dict[int, float] = {}
        self.open: set[int] = set()

    async def attempt(self, number: int) -> int:
        outcome, seconds = self.outcomes[number]
        self.started[number] = asyncio.get_running_loop().time()
        await asyncio.sleep(1e9 if outcome == "hangs" else seconds)
        if outcome == "is final":
            raise FinalError(number)
        if outcome == "fails":
            raise OSError(number)
        self.open.add(number)
        return number

    async def connect(self) -> tuple[int | None, list[Exception]]:
        attempts: list[Callable[[], Awaitable[int]]] = [
            partial(self.attempt, number) for number in range(len(self.outcomes))
        ]
        return await first_success(
            attempts, 1.0, drop=self.open.discard, is_final=lambda error: isinstance(error, FinalError)
        )


def play(*outcomes: tuple[Outcome, float]) -> tuple[Servers, int | None, list[Exception], float]:
    servers = Servers(*outcomes)

    async def main() -> Any:
        began = asyncio.get_running_loop().time()
        winner, errors = await servers.connect()
        return winner, errors, asyncio.get_running_loop().time() - began

    winner, errors, took = run("asyncio", main)
    return servers, winner, errors, took


def test_a_quick_first_server_is_alone() -> None:
    servers, winner, errors, took = play(("opens", 0.5), ("opens", 0.1))

    assert (winner, errors, took) == (0, [], 0.5)
    assert servers.started.keys() == {0}


def test_a_failure_starts_the_next_attempt_at_once() -> None:
    _, winner, errors, took = play(("fails", 0.1), ("fails", 0.1), ("opens", 0.1))

    assert (winner, round(took, 6)) == (2, 0.3)
    assert [error.args for error in errors] == [(0,), (1,)]


def test_a_silent_server_is_overtaken() -> None:
    servers, winner, _, took = play(("hangs", 0.0), ("hangs", 0.0), ("opens", 0.1))

    assert (winner, took) == (2, 2.1)
    assert servers.open == {2}


def test_a_slow_server_may_still_be_first() -> None:
    servers, winner, _, took = play(("opens", 1.5), ("opens", 5.0))

    assert (winner, took) == (0, 1.5)
    assert servers.open == {0}


def test_a_final_error_ends_it_all() -> None:
    servers, winner, errors, took = play(("hangs", 0.0), ("is final", 0.2), ("opens", 0.1))

    assert (winner, took) == (None, 1.2)
    assert isinstance(errors[0], FinalError)
    assert 2 not in servers.started


def test_whatever_is_cancelled_nothing_stays_open() -> None:
    async def connect() -> None:
        servers = Servers(("fails", 0.5), ("opens", 1.5), ("opens", 0.5))
        winner = None
        try:
            winner, _ = await servers.connect()
        finally:
            assert servers.open == (set() if winner is None else {winner})

    for how in ("scope", "native"):
        sweep = run("asyncio", partial(cancel_everywhere, how=how), connect)
        assert sweep.points >= 2


outcomes = st.tuples(
    st.sampled_from(["opens", "fails", "hangs"]), st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.25, 2.0, 3.0])
)


@given(st.lists(outcomes, min_size=1, max_size=5))
def test_one_result_is_open_and_no_attempt_waits_longer_than_the_stagger(case: list[tuple[Outcome, float]]) -> None:
    """Whatever the servers do, if one opens a connection the result is one, and the n-th attempt starts in time."""
    if all(outcome != "opens" for outcome, _ in case):
        case = [*case, ("opens", 0.0)]
    servers, winner, errors, took = play(*case)

    assert winner is not None
    assert case[winner][0] == "opens"
    assert servers.open == {winner}
    assert all(at - servers.started[0] <= number for number, at in servers.started.items())
    assert took <= min(number + seconds for number, (outcome, seconds) in enumerate(case) if outcome == "opens")
    assert len(errors) <= sum(outcome == "fails" for outcome, _ in case)

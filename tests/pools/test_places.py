"""Which connection goes to which caller, in any order of events."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from preheat.pools.asyncpg.places import FULL_SECONDS, YOUNG_SECONDS, Attempt, Place, Places, Waiter


class Caller:
    """A caller in the queue; what it was given is in `outcomes`."""

    def __init__(self, *, wants_new: bool = False) -> None:
        self.outcomes: list[Place[int] | Exception] = []
        self.has_left = False
        self.waiter: Waiter[int] = Waiter(self.deliver, wants_new=wants_new)

    def deliver(self, outcome: Place[int] | Exception) -> bool:
        if self.has_left:
            return False
        self.outcomes.append(outcome)
        return True

    @property
    def waits(self) -> bool:
        return not (self.outcomes or self.has_left)


class Pool(RuleBasedStateMachine):
    """Callers and connections come and go in any order; time goes on as it likes."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.numbers = 0
        self.callers: list[Caller] = []
        self.held: set[Place[int]] = set()  # in use by callers
        self.under_way: list[Attempt] = []
        self.served: list[int] = []

    @initialize(size=st.integers(1, 4), most=st.none() | st.integers(0, 3))
    def begin(self, size: int, most: int | None) -> None:
        self.places: Places[int] = Places(size, most)
        self.size, self.most = size, most

    def act(self) -> None:
        """What a pool does after each event."""
        while (attempt := self.places.next_attempt(self.now)) is not None:
            assert attempt not in self.under_way
            self.under_way.append(attempt)
        if (orphan := self.places.next_to_abandon()) is not None:
            assert orphan.waiter is None
        for caller in self.callers:
            for outcome in caller.outcomes:
                if isinstance(outcome, Place):
                    self.held.add(outcome)
        self.callers = [caller for caller in self.callers if caller.waits]

    @rule(wants_new=st.booleans())
    def come(self, wants_new: bool) -> None:
        """A caller takes an idle connection, or waits."""
        place = self.places.take()
        if place is not None:
            assert place not in self.held
            self.held.add(place)
            return
        caller = Caller(wants_new=wants_new)
        opening = self.places.free + len(self.places.attempts)
        could = self.places.is_open and (self.most is None or len(self.places.waiting) < self.most + opening)
        assert self.places.join(caller.waiter) is could
        if could:
            self.callers.append(caller)
        self.act()

    @precondition(lambda self: self.callers)
    @rule(data=st.data(), awake=st.booleans())
    def give_up(self, data: Any, awake: bool) -> None:
        """A caller is cancelled; it may not have had the time to leave the queue yet."""
        caller = data.draw(st.sampled_from(self.callers))
        caller.has_left = True
        if awake:
            self.places.leave(caller.waiter)
        self.act()

    @precondition(lambda self: self.held)
    @rule(data=st.data(), fit=st.booleans())
    def give_back(self, data: Any, fit: bool) -> None:
        """A connection comes back, or has died."""
        place = data.draw(st.sampled_from(sorted(self.held, key=lambda place: place.connection)))
        self.held.remove(place)
        if fit and self.places.is_open:
            first = next((caller for caller in self.callers if takes_any(caller)), None)
            self.places.put(place, self.now)
            if first is not None and not first.has_left:
                assert first.outcomes == [place]  # first come, first served
        else:
            assert self.places.remove(place)
            assert not self.places.remove(place)
        self.act()

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), how=st.sampled_from(["opened", "failed", "full", "cancelled"]))
    def end_attempt(self, data: Any, how: str) -> None:
        """A connection attempt ends in one way or another."""
        attempt = data.draw(st.sampled_from(self.under_way))
        self.under_way.remove(attempt)
        if how == "opened":
            self.numbers += 1
            assert self.places.opened(attempt, Place(self.numbers, opened_at=self.now)) is self.places.is_open
        elif how == "failed":
            caller = attempt.waiter
            self.places.failed(attempt, OSError("refused"), self.now)
            assert caller is None or (caller in self.places.waiting) is (caller.number > attempt.newest)
        elif how == "full":
            others = self.places.connections or len(self.places.attempts) > 1
            waiting = list(self.places.waiting)
            if attempt.waiter is not None and attempt.waiter.wants_new:
                waiting.remove(attempt.waiter)
            self.places.failed(attempt, OSError("too many"), self.now, is_full=True)
            assert not others or list(self.places.waiting) == waiting
        else:
            self.places.failed(attempt, None, self.now)
        self.act()

    @precondition(lambda self: hasattr(self, "places") and self.places.idle)
    @rule(data=st.data())
    def lose(self, data: Any) -> None:
        """An idle connection dies."""
        place = data.draw(st.sampled_from(self.places.idle))
        assert self.places.remove(place)
        self.act()

    @rule()
    def replace(self) -> None:
        """The pool opens a connection for itself, which serves nobody before it is open."""
        attempt = self.places.next_spare(self.now)
        assert (attempt is not None) is (self.places.is_open and self.places.free + bool(attempt) > 0)
        if attempt is not None:
            self.under_way.append(attempt)

    @rule(seconds=st.sampled_from([0.1, YOUNG_SECONDS, FULL_SECONDS * 2]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.act()

    @precondition(lambda self: self.places.is_open)
    @rule()
    def close(self) -> None:
        idle, attempts, waiting = self.places.close()
        assert attempts == self.under_way
        assert [caller.waiter for caller in self.callers if caller.waiter in waiting] == [
            waiter for waiter in waiting if waiter in {caller.waiter for caller in self.callers}
        ]
        for waiter in waiting:
            waiter.deliver(OSError("closed"))
        for place in idle:
            assert self.places.remove(place)
        self.act()

    @invariant()
    def no_more_connections_than_places(self) -> None:
        assert 0 <= self.places.free <= self.size
        assert self.places.connections + len(self.places.attempts) + self.places.free == self.size
        assert list(self.places.attempts) == self.under_way

    @invariant()
    def each_connection_has_one_user(self) -> None:
        assert self.places.lent == self.held
        assert not self.held & set(self.places.idle)

    @invariant()
    def nobody_waits_beside_an_idle_connection(self) -> None:
        """Except for whoever waits for a connection of its own."""
        waiting = [waiter for waiter in self.places.waiting if not (waiter.wants_new and waiter.attempt)]
        assert not (waiting and self.places.idle)

    @invariant()
    def callers_and_attempts_know_each_other(self) -> None:
        for waiter in self.places.waiting:
            assert waiter.attempt is None or waiter.attempt.waiter is waiter
        for attempt in self.places.attempts:
            assert attempt.waiter is None or (
                attempt.waiter.attempt is attempt and attempt.waiter in self.places.waiting
            )

    @invariant()
    def everybody_who_waits_has_something_to_wait_for(self) -> None:
        """A connection that may come back, or an attempt: nobody is forgotten."""
        if self.places.waiting and not self.places.lent:
            assert self.places.attempts

    @invariant()
    def a_closed_pool_has_no_callers(self) -> None:
        if not self.places.is_open:
            assert not self.places.waiting
            assert not self.places.idle

    @invariant()
    def a_caller_in_the_queue_is_known_to_it(self) -> None:
        assert {caller.waiter for caller in self.callers} <= set(self.places.waiting)


def takes_any(caller: Caller) -> bool:
    """Whether a caller takes a connection that is given back."""
    return not caller.waiter.wants_new or caller.waiter.attempt is None


TestPool = Pool.TestCase


def caller_of(places: Places[int]) -> Caller:
    caller = Caller()
    assert places.join(caller.waiter)
    return caller


def test_a_caller_takes_a_connection_that_is_given_back_before_its_own_is_open() -> None:
    places: Places[int] = Places(2)
    first, second = caller_of(places), caller_of(places)
    attempts = [places.next_attempt(0.0), places.next_attempt(0.0)]
    assert attempts[0] is not None
    assert attempts[1] is not None
    place = Place(1, opened_at=0.0)
    places.opened(attempts[0], place)
    places.put(place, 1.0)

    assert first.outcomes == second.outcomes == [place]
    places.opened(attempts[1], other := Place(2, opened_at=1.0))  # which nobody waits for any more
    assert places.idle == [other]


def test_one_failure_is_an_answer_for_all_who_were_waiting_when_the_attempt_began() -> None:
    places: Places[int] = Places(1)
    callers = [caller_of(places) for _ in range(100)]
    attempt = places.next_attempt(0.0)
    assert attempt is not None
    late = caller_of(places)
    places.failed(attempt, error := OSError("refused"), 1.0)

    assert all(caller.outcomes == [error] for caller in callers)
    assert late.waits
    assert places.next_attempt(1.0) is not None


def test_a_server_that_takes_no_more_is_not_asked_again_at_once_if_there_are_connections() -> None:
    places: Places[int] = Places(3)
    caller_of(places)
    attempt = places.next_attempt(0.0)
    assert attempt is not None
    places.opened(attempt, place := Place(1, opened_at=0.0))
    waiting = caller_of(places)
    attempt = places.next_attempt(0.0)
    assert attempt is not None
    places.failed(attempt, OSError("too many"), 1.0, is_full=True)

    assert waiting.waits
    assert places.next_attempt(1.0 + FULL_SECONDS / 2) is None
    assert places.next_attempt(1.0 + FULL_SECONDS) is not None
    places.put(place, 3.0)
    assert waiting.outcomes == [place]


def test_an_old_attempt_that_nobody_waits_for_gives_way_to_a_new_one() -> None:
    places: Places[int] = Places(1)
    first = caller_of(places)
    attempt = places.next_attempt(0.0)
    assert attempt is not None
    places.leave(first.waiter)
    second = caller_of(places)
    assert places.next_attempt(YOUNG_SECONDS / 2) is None  # the young one serves it
    assert attempt.waiter is second.waiter
    places.leave(second.waiter)
    third = caller_of(places)
    assert places.next_attempt(2 * YOUNG_SECONDS) is None
    assert places.next_to_abandon() is attempt
    places.failed(attempt, None, 2 * YOUNG_SECONDS)

    assert third.waits
    assert places.next_attempt(2 * YOUNG_SECONDS) is not None


def test_a_caller_whose_connection_has_died_comes_first_and_gets_a_new_one() -> None:
    """The read that runs again for the last time: not on a connection that is given back, and not behind others."""
    places: Places[str] = Places(1, max_waiting=0)
    got: dict[str, object] = {}

    def waiter(name: str, *, wants_new: bool = False) -> Waiter[str]:
        return Waiter(lambda outcome: got.__setitem__(name, outcome) is None, wants_new=wants_new)

    assert places.join(waiter("one"))
    attempt = places.next_attempt(0.0)
    assert attempt is not None
    dead = Place("dead", opened_at=0.0)
    assert places.opened(attempt, dead)
    places.max_waiting = 1
    assert places.join(waiter("other"))
    assert places.join(waiter("again", wants_new=True), first=True), "the queue is full, and it has a place"
    assert places.remove(dead)
    attempt = places.next_attempt(1.0)
    assert attempt is not None
    new = Place("new", opened_at=1.0)
    assert places.opened(attempt, new)
    assert got == {"one": dead, "again": new}
    places.put(new, 2.0)
    assert got["other"] is new

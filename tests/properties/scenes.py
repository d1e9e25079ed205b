"""A crowd of first callers around one guard, and all that can be seen of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import anyio
from hypothesis import strategies as st

from preheat.testing import Call, Caller, Step, arrive, callers, seconds, seeds, steps

from .subject import current

BUDGET = 2.0
EXACT = 1e-6


@dataclass(frozen=True)
class Case:
    """What happens to a guard: the crowd, the work that it does once, and the order of the tasks."""

    crowd: list[Caller]
    work: Step
    seed: int


works = st.one_of(steps(longest=3.0), seconds(3.0).map(lambda delay: Step(delay + 0.1)))  # most take a while
cases = st.builds(Case, callers(), works, seeds())

# Nobody's patience ends at the very moment at which something else happens, so that what must become of each call is
# known exactly.
uneven = seconds().map(lambda tenths: tenths + 0.05)
definite_cases = st.builds(
    Case, callers(timeouts=st.one_of(st.just(float("inf")), uneven), arrivals=seconds(3.0)), works, seeds()
)


@dataclass
class Scene:
    """One guard, its work and its callers."""

    case: Case
    owned: bool
    guard: Any = None
    starts: list[float] = field(default_factory=list)
    running: int = 0
    most_running: int = 0
    ended: float | None = None
    leader: int | None = None  # the task whose child runs the work
    leader_left: float = math.inf
    calls: list[Call[Any]] = field(default_factory=list)
    closed: bool = False
    began: float = 0.0

    async def work(self) -> str:
        """What the guard guards."""
        self.starts.append(self.now())
        self.leader = anyio.get_current_task().parent_id  # inline, the first caller
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self.case.work()
        finally:
            self.running -= 1
            self.ended = self.now()
        return "warm"

    async def call(self) -> bool:
        """One call; True if the guard was done when it returned, and nothing under way that nobody had given up."""
        try:
            await self.guard()
        finally:
            if self.leader == anyio.get_current_task().id:
                self.leader_left = self.now()
        return bool(self.guard.done) and (self.closed or not self.running)

    def now(self) -> float:
        """Seconds since the scene began."""
        return anyio.current_time() - self.began

    async def play(self) -> Scene:
        """Let everybody call, and wait until all have ended."""
        self.began = anyio.current_time()
        async with anyio.create_task_group() as owner:
            self.guard = current().WarmOnce(self.work, task_group=owner if self.owned else None, timeout=BUDGET)
            self.calls = await arrive(self.case.crowd, self.call)
        assert self.guard.safety_net_used == 0
        return self

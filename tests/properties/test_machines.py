"""Rule-based state machines: any sequence of calls to a guard, and to a store, beside a model of each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.from_thread import start_blocking_portal
from anyio.lowlevel import checkpoint
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from tests.properties.subject import current
from tests.properties.tally import net_unused, play

from preheat import Chunk, VectorStorage
from preheat.storage.write.chunks import numbered
from preheat.testing import backends, seeds

BUDGET = 2.0


class ModelOfAGuard:
    """What must become of the callers of a guard in one event loop."""

    def __init__(self, work: float, owned: bool) -> None:
        self.lasts, self.owned = min(work, BUDGET), owned
        self.now, self.starts, self.done, self.running = 0.0, 0, False, False
        self.ends = 0.0  # when the warm-up that is running does
        self.inline: int | None = None  # the caller that runs it
        self.callers: list[str] = []

    def call(self) -> None:
        self.callers.append("returned" if self.done else "waits")
        if not self.done and not self.running:
            self.starts += 1
            self.running, self.ends = True, self.now + self.lasts
            self.inline = None if self.owned else len(self.callers) - 1

    def cancel(self, number: int) -> None:
        if self.callers[number] == "waits":
            self.callers[number] = "cancelled"
            if self.inline == number:
                self._end()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        if self.running and self.ends < self.now:
            self._end()

    def reset(self) -> None:
        self.done = self.done and self.running

    def close(self) -> None:
        if self.running and not self.done:
            self.done = True
            self._let_go(all_but=self.inline)

    def close_owner(self) -> None:
        if self.running and self.inline is None:
            self._end()
        self.owned = False

    def _end(self) -> None:
        self.done, self.running, self.inline = True, False, None
        self._let_go()

    def _let_go(self, all_but: int | None = None) -> None:
        for number, caller in enumerate(self.callers):
            if caller == "waits" and number != all_but:
                self.callers[number] = "returned"


class RealGuard:
    """A guard in an event loop, with its callers."""

    def __init__(self, guard: Any, tasks: Any, owner: Any) -> None:
        self.guard, self._tasks, self._owner = guard, tasks, owner
        self.callers: list[str] = []
        self._scopes: list[anyio.CancelScope] = []

    async def call(self) -> None:
        number = len(self.callers)
        self.callers.append("waits")
        self._scopes.append(anyio.CancelScope())

        async def caller() -> None:
            with self._scopes[number] as scope:
                await self.guard()
                self.callers[number] = "returned"
            if scope.cancelled_caught:
                self.callers[number] = "cancelled"

        self._tasks.start_soon(caller)

    async def cancel(self, number: int) -> None:
        self._scopes[number].cancel()

    async def advance(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    async def reset(self) -> None:
        self.guard.reset()

    async def close(self) -> None:
        self.guard.close()

    async def close_owner(self) -> None:
        self._owner.cancel_scope.cancel()


class GuardMachine(RuleBasedStateMachine):
    """Writes down what is done to one guard, in one event loop after the other, and does it all at the end."""

    loops: list[tuple[str, list[tuple[Any, ...]]]]

    @initialize(backend=backends(), work=st.sampled_from([1.0, math.inf]), owned=st.booleans(), seed=seeds())
    def begin(self, backend: str, work: float, owned: bool, seed: int) -> None:
        self.work, self.owned, self.seed = work, owned, seed
        self.loops = [(backend, [])]

    def do(self, *operation: Any) -> None:
        self.loops[-1][1].append(operation)

    def callers(self) -> int:
        return sum(operation[0] == "call" for operation in self.loops[-1][1])

    @rule()
    def call(self) -> None:
        self.do("call")

    @precondition(lambda self: self.callers())
    @rule(number=st.integers(0, 20))
    def cancel(self, number: int) -> None:
        self.do("cancel", number % self.callers())

    @rule(seconds=st.sampled_from([0.375, 0.75, 1.6]))  # no sum of them is when a warm-up ends
    def advance(self, seconds: float) -> None:
        self.do("advance", seconds)

    @rule()
    def reset(self) -> None:
        self.do("reset")

    @rule()
    def close(self) -> None:
        self.do("close")

    @precondition(lambda self: self.owned and len(self.loops) == 1)
    @rule()
    def close_owner(self) -> None:
        self.do("close_owner")

    @rule(backend=backends())
    def new_loop(self, backend: str) -> None:
        self.loops.append((backend, []))

    def teardown(self) -> None:
        if not hasattr(self, "loops"):
            return
        self.starts, self.running = 0, False
        self.guard: Any = None
        for number, (backend, operations) in enumerate(self.loops):
            play(backend, self.live, operations, self.owned and number == 0, seed=self.seed)
            net_unused(backend, self.guard)

    async def function(self) -> str:
        self.starts += 1
        assert not self.running, "two warm-ups overlap"
        self.running = True
        try:
            await anyio.sleep(self.work)
        finally:
            self.running = False
        return "warm"

    async def live(self, operations: list[tuple[Any, ...]], owned: bool) -> None:
        starts = self.starts
        async with anyio.create_task_group() as tasks, anyio.create_task_group() as waiting:
            owner = await self.open_owner(tasks)
            if self.guard is None:
                self.guard = current().WarmOnce(self.function, task_group=owner if owned else None, timeout=BUDGET)
            real, model = RealGuard(self.guard, waiting, owner), ModelOfAGuard(self.work, owned)
            for name, *arguments in operations:
                await getattr(real, name)(*arguments)
                for _ in range(20):  # until all that follows at once has followed
                    await checkpoint()
                getattr(model, name)(*arguments)
                assert real.callers == model.callers, name
                assert self.starts - starts == model.starts, name
                assert self.guard.done == model.done, name
                assert self.running == model.running, name
            waiting.cancel_scope.cancel()
            tasks.cancel_scope.cancel()

    @staticmethod
    async def open_owner(tasks: Any) -> Any:
        """A task group in a task of its own, so that it can be closed before all the others."""
        opened = anyio.Event()
        owner: Any = None

        async def own() -> None:
            nonlocal owner
            async with anyio.create_task_group() as owner:
                opened.set()
                await anyio.sleep_forever()

        tasks.start_soon(own)
        await opened.wait()
        return owner


def how_to_look() -> settings:
    """As the profile says, with longer programs."""
    return settings(stateful_step_count=30)


def test_a_guard_does_what_its_model_does() -> None:
    """Call, cancel, reset, close, close the owner, go to a new loop, let time pass: in any order, on both backends."""
    run_state_machine_as_test(GuardMachine, settings=how_to_look())


DIMENSIONS = 3
documents = st.sampled_from(["a.md", "b.md", "c.md"])
texts = st.sampled_from(["one", "two", "three", "four", "five"])
vectors = st.lists(st.integers(-4, 4), min_size=DIMENSIONS, max_size=DIMENSIONS).filter(any)


@st.composite
def drawn_chunks(draw: st.DrawFn, document: st.SearchStrategy[str] = documents) -> Chunk:
    vector = [float(number) for number in draw(vectors)]
    return Chunk(draw(texts), vector, {"n": draw(st.integers(0, 9))}, draw(document), draw(st.integers(0, 3)))


class StoreMachine(RuleBasedStateMachine):
    """A store on a real PostgreSQL beside a dict."""

    names = itertools.count()

    def __init__(self, dsn: str, portal: Any) -> None:
        super().__init__()
        self.portal = portal
        self.model: dict[str, Chunk] = {}
        self.manager = portal.wrap_async_context_manager(
            VectorStorage(dsn, f"machine_{next(self.names)}", DIMENSIONS, size=2, warm_connections=1)
        )
        self.storage: VectorStorage = self.manager.__enter__()

    def teardown(self) -> None:
        self.manager.__exit__(None, None, None)

    def do(self, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        return self.portal.call(lambda: method(*args, **options))

    @rule(chunks=st.lists(drawn_chunks(), max_size=5))
    def add(self, chunks: list[Chunk]) -> None:
        new = {chunk.id: chunk for chunk in numbered(chunks)}
        assert self.do(self.storage.add, chunks) == len(new)
        self.model.update(new)

    @rule(document=documents, data=st.data())
    def replace_document(self, document: str, data: st.DataObject) -> None:
        chunks = data.draw(st.lists(drawn_chunks(st.just(document)), max_size=4))
        new = {chunk.id: chunk for chunk in numbered(chunks)}
        assert self.do(self.storage.replace_document, document, chunks) == len(new)
        self.model = {key: chunk for key, chunk in self.model.items() if chunk.document != document} | new

    @rule(chunks=st.lists(drawn_chunks(), min_size=1, max_size=3), vector=st.sampled_from([[1.0], [float("nan")] * 3]))
    def add_with_a_bad_one(self, chunks: list[Chunk], vector: list[float]) -> None:
        with pytest.raises(ValueError, match=r".+"):
            self.do(self.storage.add, [*chunks, Chunk("bad", vector)])

    @rule(chunks=st.lists(drawn_chunks(), max_size=3))
    def delete(self, chunks: list[Chunk]) -> None:
        ids = {chunk.id for chunk in chunks}
        assert self.do(self.storage.delete, sorted(ids)) == len(ids & self.model.keys())
        self.model = {key: chunk for key, chunk in self.model.items() if key not in ids}

    @rule(document=documents)
    def delete_document(self, document: str) -> None:
        kept = {key: chunk for key, chunk in self.model.items() if chunk.document != document}
        assert self.do(self.storage.delete, document=document) == len(self.model) - len(kept)
        self.model = kept

    @rule(vector=vectors, k=st.integers(1, 20))
    def search(self, vector: list[int], k: int) -> None:
        hits = self.do(self.storage.search, [float(number) for number in vector], k)
        distances = sorted(cosine(vector, chunk.embedding) for chunk in self.model.values())
        assert [hit.distance for hit in hits] == pytest.approx(distances[:k], abs=1e-6)
        for hit in hits:
            stored = self.model[hit.id]
            assert (hit.text, hit.document, hit.metadata) == (stored.text, stored.document, stored.metadata)
            assert hit.distance == pytest.approx(cosine(vector, stored.embedding), abs=1e-6)

    @rule()
    def everything_is_there(self) -> None:
        assert self.do(self.storage.count) == len(self.model)
        stored = {chunk.id: chunk for chunk in self.do(self.storage.get, sorted(self.model))}
        assert stored == self.model
        assert all(list(chunk.embedding) == list(self.model[key].embedding) for key, chunk in stored.items())


def cosine(one: Any, other: Any) -> float:
    """The cosine distance, by its definition."""
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return 1 - dot / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.timeout(300)
def test_a_store_does_what_a_dict_does(dsn: str, backend: str) -> None:
    """A search finds what sorting all chunks finds, and a bad batch changes nothing: on a real PostgreSQL."""
    few = settings(max_examples=max(10, settings.default.max_examples // 10), stateful_step_count=25)
    with start_blocking_portal(backend) as portal:
        run_state_machine_as_test(lambda: StoreMachine(dsn, portal), settings=few)

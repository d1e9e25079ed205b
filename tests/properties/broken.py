"""Guards and engines that are broken on purpose, one mistake each, as it has been seen in the field.

Each is the library's own source with one passage replaced, so that it stays what it says: one mistake away from right.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from tests.properties import test_engine, test_guard, test_machines, test_sweep
from tests.properties.subject import Subject

import preheat.warming

__all__ = ("BROKEN", "Broken")

SOURCE = Path(preheat.warming.__file__).parent


@dataclass(frozen=True)
class Broken:
    """One mistake."""

    name: str
    file: str
    """The module of `preheat.warming` in which it is made."""
    right: str
    """The passage that is right."""
    wrong: str
    """What stands in its place."""
    caught_by: tuple[Callable[..., None], ...]
    """The properties that must fail, each one."""

    def subject(self) -> Subject:
        """The broken library."""
        source = (SOURCE / self.file).read_text(encoding="utf-8")
        if source.count(self.right) != 1:
            raise LookupError(f"{self.name}: the passage stands {source.count(self.right)} times in {self.file}")
        module = ModuleType(f"preheat.warming.{self.name.replace(' ', '_')}")
        module.__package__ = "preheat.warming"
        sys.modules[module.__name__] = module
        exec(compile(source.replace(self.right, self.wrong), f"<{self.name}>", "exec"), module.__dict__)
        return Subject(WarmOnce=module.WarmOnce) if self.file == "once.py" else Subject(warm=module.warm)


BROKEN = (
    Broken(
        "flag set too early",
        "once.py",
        '        outcome: Outcome = "cancelled"\n        try:',
        '        outcome: Outcome = "cancelled"\n        run.outcome = "finished"\n        try:',
        (test_guard.test_property_02_every_call_ends,),
    ),
    Broken(
        "event never set on cancel",
        "once.py",
        "            run.running = False\n            self._end(run, outcome)",
        "            run.running = False\n            if outcome != 'cancelled':\n                run.end(outcome)",
        (
            test_guard.test_property_02_every_call_ends,
            test_guard.test_property_03_a_cancelled_caller_hurts_nobody,
            test_guard.test_property_14_the_same_seed_gives_the_same_trace,
            test_machines.test_property_a_guard_does_what_its_model_does,
        ),
    ),
    Broken(
        "event set without done",
        "once.py",
        "            self.outcome = outcome\n            self.ended.set()",
        "            self.outcome = outcome if outcome != 'cancelled' else None\n            self.ended.set()",
        (test_guard.test_property_02_every_call_ends,),
    ),
    Broken(
        "a second leader",
        "once.py",
        "                run.ended = anyio.Event()\n",
        "                await anyio.sleep(0)\n                run.ended = anyio.Event()\n",
        (test_guard.test_property_01_one_start, test_sweep.test_sweep_a_guard_lets_everybody_go),
    ),
    Broken(
        "swallowed cancellation",
        "once.py",
        "        except Exception as error:\n            run.error, outcome",
        "        except BaseException as error:\n            run.error, outcome",
        (test_guard.test_property_04_a_cancellation_is_never_swallowed,),
    ),
    Broken(
        "an unshielded await in finally",
        "once.py",
        "            run.running = False\n            self._end(run, outcome)",
        "            await anyio.sleep(0)\n            run.running = False\n            run.end(outcome)",
        (test_guard.test_property_03_a_cancelled_caller_hurts_nobody,),
    ),
    Broken(
        "a follower that does not check again",
        "once.py",
        "            run.running = False\n            self._end(run, outcome)",
        "            run.running = False\n"
        "            if outcome == 'cancelled':\n"
        "                self._runs.pop(_token(), None)  # hand over to whoever comes next\n"
        "                run.ended.set()\n"
        "            else:\n"
        "                self._end(run, outcome)",
        (test_guard.test_property_02_every_call_ends,),
    ),
    Broken(
        "failures reach the callers",
        "once.py",
        '            run.error, outcome = without_frames(error), "failed"\n',
        '            run.error, outcome = without_frames(error), "failed"\n            raise\n',
        (test_guard.test_property_05_failures_stay_inside,),
    ),
    Broken(
        "every exception is taken for a failure",
        "once.py",
        "        finally:\n            run.running = False",
        "        except BaseException as error:\n"
        "            if isinstance(error, (anyio.get_cancelled_exc_class(), GeneratorExit)):\n"
        "                raise\n"
        "        finally:\n            run.running = False",
        (test_guard.test_property_05_failures_stay_inside,),
    ),
    Broken(
        "a cancellation at the last moment is swallowed",
        "once.py",
        "                    await ended.wait()\n",
        "                    try:\n"
        "                        await ended.wait()\n"
        "                    except anyio.get_cancelled_exc_class():\n"
        "                        if run.outcome is None:\n"
        "                            raise\n",
        (test_guard.test_property_04_nor_is_one_at_the_last_moment,),
    ),
    Broken(
        "nobody watches the clock after the first has left",
        "once.py",
        "                run.watched = False\n                run.tell()\n",
        "                pass\n",
        (test_guard.test_property_02_even_if_the_work_holds_out,),
    ),
    Broken(
        "followers wait for long",
        "once.py",
        "CancelScope(deadline=run.started + limit)",
        "move_on_after(limit)",
        (test_guard.test_property_02_even_if_the_work_holds_out,),
    ),
    Broken(
        "a guard sees only itself",
        "once.py",
        "            if rest := waited_for.circle_to(other):",
        "            if rest := []:",
        (test_guard.test_property_15_guards_that_await_each_other_are_told,),
    ),
    Broken(
        "every task that inherits the context is told",
        "once.py",
        "            return anyio.current_effective_deadline() == sooner\n",
        "            return True\n",
        (test_guard.test_property_15_guards_that_await_each_other_are_told,),
    ),
    Broken(
        "reset beside a warm-up that is running",
        "once.py",
        "if run.outcome is not None and not run.running:",
        "if run.outcome is not None:",
        (test_machines.test_property_a_guard_does_what_its_model_does,),
    ),
    Broken(
        "one connection counts as two",
        "engine.py",
        "if attempt.pid is not None and attempt.pid in self._hot:",
        "if False:",
        (test_engine.test_property_08_nothing_is_lost,),
    ),
    Broken(
        "one state for all event loops",
        "once.py",
        "    def _here(self) -> _Run[T]:\n        token = _token()",
        "    def _here(self) -> _Run[T]:\n        return self._latest\n        token = _token()",
        (
            test_guard.test_property_11_another_loop_warms_anew,
            test_machines.test_property_a_guard_does_what_its_model_does,
        ),
    ),
    Broken(
        "a done guard that still waits",
        "once.py",
        "        if run.outcome is not None:\n            return run.result\n        if run.ended is None:",
        "        if run.outcome is not None:\n            await anyio.sleep(0)\n            return run.result\n"
        "        if run.ended is None:",
        (test_guard.test_property_06_when_done_a_call_is_free,),
    ),
    Broken(
        "stuck after the owner closed",
        "once.py",
        "            warm_up.close()  # anyio leaves it to the garbage collector, which would warn of it\n"
        "            return False\n",
        "            warm_up.close()\n            return True\n",
        (test_guard.test_property_12_after_the_owner_calls_still_end,),
    ),
    Broken(
        "a lost lease on time-out",
        "engine.py",
        "            async with self._pool.lease() as lease:\n                attempt",
        "            lent = self._pool.lease()\n"
        "            lease = await lent.__aenter__()\n"
        "            async with anyio.create_task_group():\n                attempt",
        (test_engine.test_property_08_nothing_is_lost,),
    ),
    Broken(
        "sequential warming",
        "engine.py",
        "                tasks.start_soon(self._heat, attempt, scope, name="
        'f"preheat: warm {self._name}, connection {number}")\n',
        "                self._release.set()\n                await self._heat(attempt, scope)\n",
        (test_engine.test_property_09_n_take_as_long_as_one,),
    ),
    Broken(
        "released before all are hot",
        "engine.py",
        "                self._settle(attempt)\n                await self._release.wait()\n",
        "                self._settle(attempt)\n",
        (test_engine.test_property_07_busy_connections_are_waited_for,),
    ),
    Broken(
        "each warm-up for itself",
        "engine.py",
        "if one.pool is pool and one not in _probing.get()]",
        "if one is pool]",
        (test_engine.test_property_16_warm_ups_of_one_pool_do_not_fail_each_other,),
    ),
    Broken(
        "whoever waits is never let go",
        "engine.py",
        "        self.ended.set()\n",
        "",
        (test_engine.test_property_16_warm_ups_of_one_pool_do_not_fail_each_other,),
    ),
    Broken(
        "held until the deadline",
        "engine.py",
        "                with anyio.move_on_after(max(self._slowest, HOLD_SECONDS) / HOLD_PARTS):",
        "                with anyio.move_on_after(math.inf):",
        (test_engine.test_property_10_others_wait_for_one_connect,),
    ),
    Broken(
        "half-used connections are put back",
        "engine.py",
        "                    lease.discard()  # half-used: nobody may get it\n",
        "",
        (test_engine.test_property_08_nothing_is_lost, test_sweep.test_sweep_a_warm_up_loses_nothing),
    ),
    Broken(
        "a failure cancels the others",
        "engine.py",
        "                attempt.failed(error)\n",
        "                attempt.failed(error)\n                scope.cancel()\n",
        (test_engine.test_property_07_the_report_adds_up, test_engine.test_property_07_for_every_failure_pattern),
    ),
    Broken(
        "no limit on the whole",
        "engine.py",
        "anyio.move_on_after(timeout) as scope:",
        "anyio.move_on_after(math.inf) as scope:",
        (test_engine.test_property_09_it_ends_in_time,),
    ),
)

"""Guards and engines that are broken on purpose, one mistake each, as it has been seen in the field.

Each is the library's own source with one passage replaced, so that it stays what it says: one mistake away from right.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.properties import test_engine, test_guard, test_machines, test_sweep
from tests.properties.subject import Subject

import preheat

__all__ = ("BROKEN", "Broken")

SOURCE = Path(preheat.__file__).parent
ONCE, RUN, ENGINE = "warming/once.py", "_concurrency/shared_run.py", "warming/engine.py"


@dataclass(frozen=True)
class Broken:
    """One mistake."""

    name: str
    file: str
    """The module in which it is made."""
    right: str
    """The passage that is right."""
    wrong: str
    """What stands in its place."""
    caught_by: tuple[Callable[..., None], ...]
    """The properties that must fail, each one."""

    def subject(self) -> Subject:
        """The broken library."""
        broken = self._run(self.file, self.right, self.wrong)
        if self.file == ENGINE:
            return Subject(warm=broken.warm)
        if self.file == ONCE:
            return Subject(WarmOnce=broken.WarmOnce)
        guard = self._run(ONCE)
        guard.SharedRun = broken.SharedRun
        return Subject(WarmOnce=guard.WarmOnce)

    def _run(self, file: str, right: str = "", wrong: str = "") -> Any:
        """The module in a file of the library, with a passage of its source replaced."""
        source = (SOURCE / file).read_text(encoding="utf-8")
        if right and source.count(right) != 1:
            raise LookupError(f"{self.name}: the passage stands {source.count(right)} times in {file}")
        package = f"preheat.{Path(file).parent}"
        module = ModuleType(f"{package}.{self.name.replace(' ', '_')}")
        module.__package__ = package
        sys.modules[module.__name__] = module
        exec(compile(source.replace(right, wrong) if right else source, f"<{self.name}>", "exec"), module.__dict__)
        return module


BROKEN = (
    Broken(
        "flag set too early",
        RUN,
        "        around = _around.set(self)\n        try:",
        "        around = _around.set(self)\n        self.outcome = 'finished'\n        try:",
        (test_guard.test_every_call_ends,),
    ),
    Broken(
        "event never set on cancel",
        RUN,
        "            self._scope = None\n            self.end(outcome)",
        "            self._scope = None\n            if outcome != 'cancelled':\n                self.end(outcome)",
        (
            test_guard.test_every_call_ends,
            test_guard.test_a_cancelled_caller_affects_no_other,
            test_guard.test_the_same_seed_gives_the_same_trace,
            test_machines.test_a_guard_does_what_its_model_does,
        ),
    ),
    Broken(
        "event set without done",
        RUN,
        "            self.outcome = outcome  #",
        "            self.outcome = outcome if outcome != 'cancelled' else None  #",
        (test_guard.test_every_call_ends,),
    ),
    Broken(
        "a second leader",
        ONCE,
        "            run = self._runs[current_token()",
        "            await anyio.sleep(0)\n            run = self._runs[current_token()",
        (test_guard.test_at_most_one_warm_up_starts, test_sweep.test_a_guard_cancelled_anywhere_releases_its_callers),
    ),
    Broken(
        "swallowed cancellation",
        ONCE,
        "                with ungrouped():\n",
        "                with __import__('contextlib').suppress(BaseException), ungrouped():\n",
        (test_guard.test_a_cancellation_is_never_swallowed,),
    ),
    Broken(
        "an unshielded await in finally",
        RUN,
        "            self._scope = None\n            self.end(outcome)",
        "            self._scope = None\n            await anyio.sleep(0)\n            self.end(outcome)",
        (test_guard.test_a_cancelled_caller_affects_no_other,),
    ),
    Broken(
        "a follower that does not check again",
        RUN,
        "            self._scope = None\n            self.end(outcome)",
        "            self._scope = None\n"
        "            if outcome == 'cancelled' and self._event is not None:\n"
        "                self._event.set()  # hand over to the next caller\n"
        "            else:\n"
        "                self.end(outcome)",
        (test_guard.test_every_call_ends,),
    ),
    Broken(
        "failures reach the callers",
        RUN,
        '            self.error, outcome = error, "failed"\n',
        '            self.error, outcome = error, "failed"\n            raise\n',
        (test_guard.test_failures_stay_inside_the_guard,),
    ),
    Broken(
        "every exception is taken for a failure",
        RUN,
        "        finally:\n            self.is_running = False",
        "        except BaseException as error:\n"
        "            if isinstance(error, (anyio.get_cancelled_exc_class(), GeneratorExit)):\n"
        "                raise\n"
        "        finally:\n            self.is_running = False",
        (test_guard.test_failures_stay_inside_the_guard,),
    ),
    Broken(
        "a cancellation at the last moment is swallowed",
        RUN,
        "            await self._event.wait()\n",
        "            try:\n"
        "                await self._event.wait()\n"
        "            except anyio.get_cancelled_exc_class():\n"
        "                if self.outcome is None:\n"
        "                    raise\n",
        (test_guard.test_a_cancellation_at_the_last_moment_is_never_swallowed,),
    ),
    Broken(
        "followers wait for long",
        ONCE,
        "CancelScope(deadline=run.started + limit)",
        "move_on_after(limit)",
        (test_guard.test_every_call_ends_even_if_the_work_resists_cancellation,),
    ),
    Broken(
        "a guard sees only itself",
        RUN,
        "            if rest := awaited._path_to(other):",
        "            if rest := []:",
        (test_guard.test_guards_that_await_each_other_fail_at_once,),
    ),
    Broken(
        "every task that inherits the context is told",
        RUN,
        "        return self._task in above or above[-1]",
        "        return True or above[-1]",
        (test_guard.test_guards_that_await_each_other_fail_at_once,),
    ),
    Broken(
        "reset while a warm-up is running",
        ONCE,
        "if run is not None and run.outcome is not None and not run.is_running:",
        "if run is not None and run.outcome is not None:",
        (test_machines.test_a_guard_does_what_its_model_does,),
    ),
    Broken(
        "one connection counts as two",
        ENGINE,
        "if attempt.pid is not None and attempt.pid in self._hot:",
        "if False:",
        (test_engine.test_every_lease_comes_back,),
    ),
    Broken(
        "one state for all event loops",
        ONCE,
        "        return self._latest if loop is None else",
        "        return self._latest if True else",
        (
            test_guard.test_another_event_loop_warms_anew,
            test_machines.test_a_guard_does_what_its_model_does,
        ),
    ),
    Broken(
        "a done guard that still waits",
        ONCE,
        "        if run is not None and run.outcome is not None:\n            return run.result\n",
        "        if run is not None and run.outcome is not None:\n"
        "            await anyio.sleep(0)\n"
        "            return run.result\n",
        (test_guard.test_a_call_of_a_done_guard_waits_on_nothing,),
    ),
    Broken(
        "stuck after the owner closed",
        ONCE,
        "        return group is not None and start_in(",
        "        return group is not None or start_in(",
        (test_guard.test_calls_end_after_the_owner_has_closed,),
    ),
    Broken(
        "a lost lease on time-out",
        ENGINE,
        "            async with lease_new() as lease:\n                attempt",
        "            lent = lease_new()\n"
        "            lease = await lent.__aenter__()\n"
        "            async with anyio.create_task_group():\n                attempt",
        (test_engine.test_every_lease_comes_back,),
    ),
    Broken(
        "sequential warming",
        ENGINE,
        "                tasks.start_soon(self._heat, attempt, scope, name="
        'f"preheat: warm {self._name}, connection {number}")\n',
        "                self._release.set()\n                await self._heat(attempt, scope)\n",
        (test_engine.test_n_connections_take_as_long_as_one,),
    ),
    Broken(
        "released before all are hot",
        ENGINE,
        "                self._settle(attempt)\n                await self._release.wait()\n",
        "                self._settle(attempt)\n",
        (test_engine.test_busy_connections_are_waited_for,),
    ),
    Broken(
        "each warm-up for itself",
        ENGINE,
        "if one.pool is pool and one not in _probing.get()]",
        "if one is pool]",
        (test_engine.test_warm_ups_of_one_pool_do_not_fail_each_other,),
    ),
    Broken(
        "whoever waits is never let go",
        ENGINE,
        "        self.ended.set()\n",
        "",
        (test_engine.test_warm_ups_of_one_pool_do_not_fail_each_other,),
    ),
    Broken(
        "held until the deadline",
        ENGINE,
        "                with anyio.move_on_after(max(self._slowest, HOLD_SECONDS) / HOLD_PARTS):",
        "                with anyio.move_on_after(math.inf):",
        (test_engine.test_others_wait_for_at_most_one_connect,),
    ),
    Broken(
        "half-used connections are put back",
        ENGINE,
        "                    lease.discard()  # its session may be in any state\n",
        "",
        (test_engine.test_every_lease_comes_back, test_sweep.test_a_warm_up_cancelled_anywhere_loses_nothing),
    ),
    Broken(
        "a failure cancels the others",
        ENGINE,
        "                attempt.failed(error)\n",
        "                attempt.failed(error)\n                scope.cancel()\n",
        (test_engine.test_the_report_adds_up, test_engine.test_the_report_adds_up_for_every_pattern_of_failures),
    ),
    Broken(
        "no limit on the whole",
        ENGINE,
        "anyio.move_on_after(timeout) as scope:",
        "anyio.move_on_after(math.inf) as scope:",
        (test_engine.test_a_warm_up_ends_in_time,),
    ),
)

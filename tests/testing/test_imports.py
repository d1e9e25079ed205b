from __future__ import annotations

import os
import subprocess
import sys

import pytest

BLOCK = "import sys; sys.modules.update(dict.fromkeys(BLOCKED))"  # an import of these is a ModuleNotFoundError


def _python(code: str, *blocked: str) -> str:
    command = [sys.executable, "-W", "error", "-c", f"BLOCKED = {blocked!r}\n{BLOCK}\n{code}"]
    environment = {**os.environ, "HYPOTHESIS_NO_PLUGINS": "1"}
    answer = subprocess.run(command, capture_output=True, check=False, text=True, env=environment)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_neither_hypothesis_nor_trio_is_imported_with_the_kit() -> None:
    code = "import preheat.testing; print(sorted(n for n in ('hypothesis', 'trio', 'pytest') if sys.modules.get(n)))"

    assert _python(code).strip() == "[]"


def test_the_library_does_not_import_the_kit() -> None:
    assert _python("import preheat; print('preheat.testing' in sys.modules)").strip() == "False"


def test_a_run_on_asyncio_imports_neither() -> None:
    code = """
import anyio
from preheat.testing import FakePool, FaultPlan, run, hang, cancel_everywhere, arrive, Caller
async def main():
    pool = FakePool(plan=FaultPlan.all(release=hang()))
    async def use():
        async with pool.lease() as lease:
            await lease.ping()
    await cancel_everywhere(use)
    await arrive([Caller(1.0), Caller(timeout=0.5, how="native")], use)
    pool.assert_no_leaks()
    return "done"
print(run("asyncio", main, seed=1), sorted(n for n in ('hypothesis', 'trio') if sys.modules.get(n)))
"""
    assert _python(code, "hypothesis", "trio").strip() == "done []"


STRATEGIES = ["backends", "callers", "fault_plans", "faults", "pool_sizes", "seconds", "seeds", "steps"]


def test_each_strategy_without_hypothesis_is_an_extra_that_is_missing() -> None:
    code = f"""
import preheat.testing
from preheat.errors import MissingExtraError
for name in {STRATEGIES}:
    try:
        exec(f"from preheat.testing import {{name}}")
    except MissingExtraError as error:
        assert name in error.feature, error
        assert error.extra == "testing"
        assert "preheat[testing]" in str(error), error
        print(name)
"""
    assert _python(code, "hypothesis").split() == STRATEGIES


def test_the_backends_without_trio_are_asyncio_alone() -> None:
    code = """
from hypothesis import given, settings
from preheat.testing import backends
seen = set()
@settings(database=None)
@given(backends())
def look(backend):
    seen.add(backend)
look()
print(seen)
"""
    assert _python(code, "trio").strip() == "{'asyncio'}"


def test_a_run_on_trio_without_trio_is_an_extra_that_is_missing() -> None:
    code = """
import anyio
from preheat.testing import run
from preheat.errors import MissingExtraError
try:
    run("trio", anyio.sleep, 1)
except MissingExtraError as error:
    print(error.extra)
"""
    assert _python(code, "trio").strip() == "testing"


def test_every_name_of_the_table_of_contents_is_there_and_no_other() -> None:
    import preheat.testing

    for name in preheat.testing.__all__:
        assert callable(getattr(preheat.testing, name)) or name == "Trace"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = preheat.testing.no_such_name
    assert not hasattr(preheat.testing, "strategy")


def test_a_strategy_is_a_function_of_that_name_also_when_everything_is_imported() -> None:
    code = f"""
from preheat.testing import *
import preheat.testing
for name in {STRATEGIES}:
    exec(f"from preheat.testing import {{name}} as imported")
    assert imported is globals()[name] is getattr(preheat.testing, name), name
    assert imported.__name__ == name
    imported().validate()
    print(name)
"""
    assert _python(code).split() == STRATEGIES

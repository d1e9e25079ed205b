"""A program imports only what it uses, and before its event loop runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ROOMS = {"preheat.errors", "preheat.pools", "preheat.warming", "preheat.storage", "preheat.retrieval"}


def run_python(program: str, *arguments: str) -> list[str]:
    """The words that a program prints."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("name", "rooms"),
    [
        ("PreheatError", {"errors"}),
        ("open_pool", {"errors", "pools"}),
        ("WarmOnce", {"errors", "pools", "warming"}),
        ("VectorStorage", {"errors", "pools", "warming", "storage"}),
        ("ResearchRetriever", {"errors", "pools", "warming", "storage", "retrieval"}),
    ],
)
def test_a_name_imports_its_room_and_those_below(name: str, rooms: set[str]) -> None:
    loaded = run_python(f"import sys; from preheat import {name}; print(*sys.modules)")

    assert {module for module in loaded if module in ROOMS} == {f"preheat.{room}" for room in rooms}


def test_importing_preheat_imports_no_room() -> None:
    loaded = run_python("import sys, preheat; print(*sys.modules)")

    assert [name for name in loaded if name.startswith("preheat")] == ["preheat"]
    assert not {"anyio", "asyncio", "logging", "typing_extensions"} & set(loaded)


def test_every_name_is_found_and_listed() -> None:
    import preheat

    assert {*preheat.__all__, "pools", "storage"} <= set(dir(preheat))
    assert preheat.pools.open_pool is preheat.open_pool
    with pytest.raises(AttributeError, match="no attribute 'warn'"):
        preheat.warn  # type: ignore[attr-defined]  # noqa: B018


FIRST_ANSWER = """
import sys, anyio
from preheat import VectorStorage, open_pool

async def main(pool, ask):
    async with pool as opened:
        await ask(opened)

dsn, backend, kind = sys.argv[1:]
if backend == "trio":
    import trio, anyio._backends._trio, preheat.pools.trio.pool
if kind == "pool":
    pool, ask = open_pool(dsn, size=1), lambda pool: pool.fetch("SELECT 1")
else:
    pool, ask = VectorStorage(dsn, "none_such", 3, size=1), lambda storage: storage.search([1, 0, 0])
before = set(sys.modules)
try:
    anyio.run(main, pool, ask, backend=backend)
except Exception as error:
    assert type(error).__name__ == "CollectionNotFoundError", error
print("asyncpg" in before, *(set(sys.modules) - before))
"""


@pytest.mark.parametrize("kind", ["pool", "storage"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_pool_that_was_made_imports_nothing_more(dsn: str, backend: str, kind: str) -> None:
    driver_is_loaded, *later = run_python(FIRST_ANSWER, dsn, backend, kind)

    assert driver_is_loaded == "True"
    assert [name for name in later if not name.startswith(("encodings.", "stringprep"))] == []


COMMAND = """
import sys
from preheat.cli import main
sys.argv[0] = "preheat"
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
HEAVY = {"asyncpg", "numpy", "orjson", "rich", "trio", "wordllama"}


@pytest.mark.parametrize(
    ("arguments", "environment", "printed", "unused"),
    [
        (["--version"], {}, "preheat 0.", {"anyio", "preheat.errors", "typer"}),
        (["--help"], {}, "Usage: preheat [OPTIONS] COMMAND", {"anyio", "preheat.errors"}),
        (
            [],
            {"_PREHEAT_COMPLETE": "complete_bash", "COMP_WORDS": "preheat se", "COMP_CWORD": "1"},
            "search",
            {"anyio"},
        ),
    ],
    ids=["version", "help", "completion"],
)
def test_what_needs_no_database_imports_no_command(
    arguments: list[str], environment: dict[str, str], printed: str, unused: set[str]
) -> None:
    done = run_command(arguments, environment)

    assert done.returncode == 0
    assert done.stdout.startswith(printed)
    loaded = set(done.stderr.split())
    assert not loaded & (HEAVY | unused)
    assert not [name for name in loaded if name.startswith("preheat.cli.commands")]


def test_a_search_imports_no_other_command_and_nothing_to_draw_with(dsn: str) -> None:
    done = run_command(["search", "tea", "-c", "none_such", "--json"], {"PREHEAT_DSN": dsn})

    assert done.returncode == 1
    loaded = set(done.stderr.split())
    assert {name for name in loaded if name.startswith("preheat.cli.commands.")} == {"preheat.cli.commands.search"}
    assert not loaded & {"platformdirs", "preheat.embedded", "preheat.measure", "rich.progress", "rich.table", "trio"}


def run_command(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `preheat`, and print the modules that it has imported to standard error."""
    command = [sys.executable, "-c", COMMAND, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)

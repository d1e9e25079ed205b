"""The contest decides its order before it runs, mixes nobody's samples, and needs nothing of preheat for its peers."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.contestants import CONTESTANTS, Contestant, by_name
from benchmarks.data import dataset
from benchmarks.data.vectors import QUERIES, query_vectors, row_vectors, texts
from benchmarks.report.records import Series
from benchmarks.runner.contest import Contest, Outcome, merge_versions
from benchmarks.runner.jobs import Job
from benchmarks.runner.peers import WorkerError, last_line, parse, requirements, work
from benchmarks.runner.schedule import ALL, QUICK, Options, Task, plan
from rich.console import Console
from tests.support.server import Server

import benchmarks

BENCHMARKS = Path(benchmarks.__file__).parent
FOR_PEERS = ("runner/worker", "runner/jobs", "runner/round_trips", "runner/concurrently", "data/vectors")
"""What workers in the peers' environments import."""


def test_every_round_measures_everybody_in_an_order_of_its_own() -> None:
    options = Options(rounds=2, round_trips=(0.0, 0.02), ingest_rounds=0)
    tasks = list(plan(options))
    searching = [contestant for contestant in CONTESTANTS if contestant.searches]
    runs = [tasks[start : start + len(searching)] for start in range(0, len(tasks), len(searching))]
    assert [(run[0].seed, run[0].at) for run in runs] == [(0, 0.0), (0, 0.02), (1, 0.0), (1, 0.02)]
    orders = [tuple(task.contestant.name for task in run) for run in runs]
    assert all(set(order) == {contestant.name for contestant in searching} for order in orders)
    assert len(set(orders)) == len(orders)
    assert tasks == list(plan(options))


def test_round_trips_have_a_pass_of_their_own_only_if_no_meter_counts_them_anyway() -> None:
    def kinds(*round_trips: float) -> Counter[str]:
        return Counter(task.kind for task in plan(Options(rounds=2, round_trips=round_trips, ingest_rounds=0)))

    searching = sum(contestant.searches for contestant in CONTESTANTS)
    assert kinds(0.0) == {"search": 2 * searching, "round trips": searching}
    assert kinds(0.0, 0.005) == {"search": 4 * searching}


def test_nothing_is_metered_where_milliseconds_are_taken_directly() -> None:
    assert [task.metered for task in (_task("search", 0), _task("search", 0.005), _task("round trips", 0))] == [
        False,
        True,
        True,
    ]
    assert not _task("ingest", 384).metered


def test_samples_become_series_of_the_right_unit_and_place() -> None:
    outcome = Outcome()
    outcome.note(_task("search", 0.02), {"samples": {"steady": [1.0, 2.0], "steady round trips": [1.0]}})
    outcome.note(_task("search", 0.02), {"samples": {"steady": [3.0]}})
    outcome.note(_task("ingest", 384), {"samples": {"ingest": [9.0]}})
    assert outcome.series == [
        Series("contest", "asyncpg pool", "steady", "ms", (1.0, 2.0, 3.0), round_trip=0.02),
        Series("contest", "asyncpg pool", "steady round trips", "round trips", (1.0,), round_trip=0.02),
        Series("ingest", "asyncpg pool", "ingest", "rows/s", (9.0,), at=384),
    ]


def test_a_version_that_differs_says_whose_it_is() -> None:
    versions = {"asyncpg": "2"}
    merge_versions(versions, {"asyncpg": "2", "pgvector": "3"}, "one")
    merge_versions(versions, {"asyncpg": "1", "pgvector": "3"}, "other")
    assert versions == {"asyncpg": "2", "pgvector": "3", "asyncpg (other)": "1"}


def test_a_failure_is_reported_by_its_last_meaningful_line() -> None:
    assert last_line("Traceback:\n  | ValueError: no\n  +------\n\n") == "| ValueError: no"
    assert last_line("") == "it has ended without a word"
    assert parse('a contestant prints\n{"rows": 1}\n') == {"rows": 1}


def test_a_job_survives_its_line() -> None:
    job = Job("triopg", "search", "postgresql://", "c", 3, backend="trio", timed=False, seconds=0.5)
    assert Job.from_line(job.to_line()) == job
    assert "\n" not in job.to_line()


def test_vectors_and_texts_are_the_same_each_time_and_all_different() -> None:
    assert np.array_equal(row_vectors(50, 8), row_vectors(50, 8))
    assert not np.array_equal(row_vectors(50, 8)[:10], query_vectors(8, 0)[:10])
    assert sorted(map(tuple, query_vectors(8, 0))) == sorted(map(tuple, query_vectors(8, 1)))
    assert not np.array_equal(query_vectors(8, 0), query_vectors(8, 1))
    assert query_vectors(8, 0).shape == (QUERIES, 8)
    assert len(set(texts(100))) == 100


def test_an_unknown_contestant_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="triopg"):
        by_name("sqlite")


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=ALL)
def test_every_contestant_has_its_module_and_requirements(contestant: Contestant) -> None:
    assert by_name(contestant.name) is contestant
    assert (BENCHMARKS / "contestants" / f"{contestant.module}.py").exists()
    assert contestant.environment == "preheat" or requirements(contestant.environment).exists()


def test_workers_of_peers_import_nothing_of_preheat() -> None:
    contestants = [path for path in (BENCHMARKS / "contestants").glob("*.py") if path.stem != "preheat_storage"]
    for path in [*contestants, *(BENCHMARKS / f"{name}.py" for name in FOR_PEERS)]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                first, *rest = name.split(".", 1)
                assert first not in ("preheat", "tests", "anyio", "rich"), path
                module = "".join(rest).replace(".", "/")
                assert first != "benchmarks" or module.startswith("contestants") or module in FOR_PEERS, (path, name)


def test_preheat_is_measured_from_end_to_end(server: Server) -> None:
    """A whole contest with one contestant, which needs no environment but this one."""
    options = replace(
        QUICK, rows=300, round_trips=(0.0,), contestants=["preheat on asyncio"], ingest_dimensions=(8,), steady=2
    )
    outcome = Contest(server, options, Console(quiet=True)).run()
    assert outcome.failures == {}
    found = {series.what: series for series in outcome.series}
    assert found["cold round trips"].samples == (6,)
    assert found["steady round trips"].samples == (1,)
    assert len(found["steady"].samples) == 2
    assert all(series.median > 0 for series in outcome.series)
    assert {"preheat", "asyncpg", "PostgreSQL", "Python"} <= set(outcome.versions)


def test_a_contestant_that_fails_is_reported_and_the_rest_goes_on(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(contestant: Contestant, job: Job) -> dict[str, object]:
        if contestant == by_name("preheat on asyncio"):
            raise WorkerError("no luck")
        return {"samples": {"steady": [1.0]}, "versions": {}, "rows": 0}

    monkeypatch.setattr("benchmarks.runner.contest.work", failing)
    options = replace(
        QUICK,
        rows=10,
        round_trips=(0.0,),
        contestants=["preheat on asyncio", "preheat on uvloop"],
        ingest_rounds=0,
    )
    outcome = Contest(server, options, Console(quiet=True)).run()
    assert set(outcome.failures.values()) == {"no luck"}
    assert {series.who for series in outcome.series} == {"preheat on uvloop"}


def test_a_worker_that_fails_raises_its_last_line(server: Server) -> None:
    job = Job("preheat on asyncio", "search", server.dsn("missing"), dataset.COLLECTION, 3)
    with pytest.raises(WorkerError, match="missing"):
        work(by_name("preheat on asyncio"), job)


def _task(kind: str, at: float) -> Task:
    return Task(by_name("asyncpg pool"), kind, at, 0)

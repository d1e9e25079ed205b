"""The workers of docs/how-to/services do a task with a warmed pool, and close it when they end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest
from tests.services.conftest import QUESTION, TEXT
from tests.services.test_services import SERVICES, free_port
from tests.support.needed import missing
from tests.support.server import Server
from tests.support.waiting import wait_until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("arq") is None, reason="run `just services`: the frameworks are not installed"),
]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The DSN of a Redis server."""
    program = shutil.which("redis-server") or missing("redis-server is not installed")
    port = free_port()
    process = subprocess.Popen(
        (program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)),
        stdout=subprocess.DEVNULL,
    )
    yield f"redis://127.0.0.1:{port}"
    process.terminate()
    process.wait()


def test_arq(handbook: tuple[str, str], server: Server, redis: str) -> None:
    from arq import create_pool
    from arq.connections import RedisSettings

    database, dsn = handbook

    async def ask() -> Any:
        queue = await create_pool(RedisSettings.from_dsn(redis))
        try:
            job = await queue.enqueue_job("ask", QUESTION)
            assert job is not None
            return await job.result(timeout=60, poll_delay=0.01)
        finally:
            await queue.aclose()

    worker = subprocess.Popen(
        (sys.executable, "-m", "arq", "arq_worker.WorkerSettings"),
        cwd=SERVICES,
        env={**os.environ, "DSN": dsn, "REDIS_DSN": redis},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        (hit,) = anyio.run(ask)
        worker.send_signal(signal.SIGTERM)
        output, _ = worker.communicate(timeout=30)
    finally:
        worker.kill()
        worker.communicate()
    assert hit["text"] == TEXT
    assert "connections still in use" not in output  # the traceback of its own cancellation is arq's
    wait_until(lambda: server.backends(database) == 0)


def test_a_test_client_of_fastapi(handbook: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSN", handbook[1])
    monkeypatch.syspath_prepend(str(SERVICES))

    import testing_fastapi  # type: ignore[import-not-found]

    testing_fastapi.test_ask()


def test_taskiq(handbook: tuple[str, str], server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    database, dsn = handbook
    monkeypatch.setenv("DSN", dsn)
    monkeypatch.syspath_prepend(str(SERVICES))

    async def main() -> Any:
        import taskiq_worker  # type: ignore[import-not-found]

        taskiq_worker.broker.is_worker_process = True
        await taskiq_worker.broker.startup()
        task = await taskiq_worker.ask.kiq(QUESTION)
        result = await task.wait_result(timeout=60)
        await taskiq_worker.broker.shutdown()
        result.raise_for_error()
        return result.return_value

    (hit,) = anyio.run(main)
    assert hit["text"] == TEXT
    wait_until(lambda: server.backends(database) == 0)

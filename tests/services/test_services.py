"""Each service of docs/how-to/services is started, asked over HTTP, and stopped by SIGTERM with a request in flight.

`just services` runs this with the frameworks installed, in an environment of its own.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import anyio
import asyncpg
import psutil
import pytest
from tests.services.conftest import QUESTION, TEXT
from tests.support.server import Server
from tests.support.waiting import wait_until

from preheat.testing import FaultyNetwork

SERVICES = Path(__file__).parents[2] / "docs" / "how-to" / "services"
PYTHON = (sys.executable, "-m")
UVICORN = (*PYTHON, "uvicorn", "--no-access-log", "--port", "{port}")
HYPERCORN = (*PYTHON, "hypercorn", "--graceful-timeout", "20", "--bind", "127.0.0.1:{port}")
GUNICORN = (*PYTHON, "gunicorn", "--bind", "127.0.0.1:{port}", "--worker-class", "uvicorn_worker.UvicornWorker")
COMMANDS = {
    "fastapi on uvicorn": (*UVICORN, "fastapi_service:app"),
    "fastapi on uvicorn, two workers": (*UVICORN, "--workers", "2", "fastapi_service:app"),
    "fastapi on gunicorn, two workers": (*GUNICORN, "--workers", "2", "fastapi_service:app"),
    "starlette on uvicorn": (*UVICORN, "starlette_service:app"),
    "starlette on hypercorn, asyncio": (*HYPERCORN, "starlette_service:app"),
    "starlette on hypercorn, trio": (*HYPERCORN, "--worker-class", "trio", "starlette_service:app"),
    "litestar on uvicorn": (*UVICORN, "litestar_service:app"),
    "quart on hypercorn": (*HYPERCORN, "quart_service:app"),
    "aiohttp": (sys.executable, "aiohttp_service.py"),
    "django on uvicorn": (*UVICORN, "django_service:app"),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("litestar") is None, reason="run `just services`: the frameworks are not installed"),
]


class Service:
    """A service that runs in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, *, timeout: float = 30.0, **query: Any) -> tuple[int, Any]:
        """Ask the service; the status and the body."""
        try:
            with urlopen(f"{self._url}{path}?{urlencode(query)}", timeout=timeout) as response:
                return response.status, json.load(response)
        except HTTPError as error:
            with error:
                body = error.read()
                return error.code, json.loads(body) if body else None

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        try:
            return self.get("/ready")[0] == 200
        except OSError:
            return False  # it does not listen yet

    def is_alive(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        try:
            return self.get("/alive")[0] == 200
        except OSError:
            return False

    def is_asked(self) -> bool:
        """Whether a client is connected."""
        process = psutil.Process(self.process.pid)
        return any(
            connection.status == psutil.CONN_ESTABLISHED and connection.laddr.port == self.port
            for one in (process, *process.children(recursive=True))
            for connection in one.net_connections("tcp")
        )

    def wait_until_it_stops_serving(self) -> None:
        """Return as soon as new requests are refused, or after a second: some servers go on to serve for a while."""
        give_up = time.monotonic() + 1.0
        with suppress(OSError, HTTPException, ValueError):  # refused, broken off, or cut short
            while time.monotonic() < give_up:
                self.get("/alive", timeout=1.0)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@contextmanager
def running(command: tuple[str, ...], dsn: str) -> Iterator[Service]:
    port = free_port()
    environment = {**os.environ, "DSN": dsn, "PORT": str(port), "PYTHONPATH": str(SERVICES)}
    arguments = [part.format(port=port) for part in command]
    process = subprocess.Popen(
        arguments, cwd=SERVICES, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield Service(process, port)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_service_answers_and_ends_cleanly(
    command: tuple[str, ...], handbook: tuple[str, str], server: Server
) -> None:
    database, dsn = handbook
    with running(command, dsn) as service, ThreadPoolExecutor(1) as client:
        wait_until(service.is_ready)
        assert service.get("/alive") == (200, {})
        assert service.get("/ready") == (200, {"pool": "warm"})
        status, (hit,) = service.get("/ask", question=QUESTION)
        assert (status, hit["document"], hit["text"]) == (200, "holidays.md", TEXT)
        status, body = service.get("/ask", question=QUESTION, k=0)
        assert (status, body["error"]) == (400, "k is 0; ask for at least 1 hit")

        with locked(server, database) as waiting:  # the search waits for a lock, so that a request is in flight
            answer = client.submit(service.get, "/ask", question=QUESTION)
            wait_until(waiting)
            service.process.send_signal(signal.SIGTERM)
            service.wait_until_it_stops_serving()
        status, _ = answer.result()
        output, _ = service.process.communicate(timeout=30)

    assert status == 200, output
    assert service.process.returncode in (0, -signal.SIGTERM), output
    assert "Traceback" not in output
    assert server.backends(database) == 0


SOON = {
    "uvicorn": (*UVICORN, "--timeout-graceful-shutdown", "2", "starlette_service:app"),
    "hypercorn, asyncio": (*HYPERCORN, "--graceful-timeout", "2", "starlette_service:app"),
    "hypercorn, trio": (*HYPERCORN, "--graceful-timeout", "2", "--worker-class", "trio", "starlette_service:app"),
}
"""Servers that give a request two seconds to end after SIGTERM."""


@pytest.mark.parametrize("command", SOON.values(), ids=SOON)
def test_readiness_follows_the_database_and_a_hung_one_holds_up_no_end(
    command: tuple[str, ...], handbook: tuple[str, str], server: Server
) -> None:
    database, dsn = handbook
    with FaultyNetwork(dsn) as network, ThreadPoolExecutor(1) as client:
        network.refuse()
        with running(command, network.dsn) as service:

            def pool_is(*states: str) -> bool:
                assert service.get("/alive") == (200, {}), "liveness does not depend on the database"
                status, body = service.get("/ready")
                assert (status == 200) == (body["pool"] == "warm")
                return body["pool"] in states

            wait_until(service.is_alive)
            assert pool_is("cold", "warming", "degraded")
            network.heal()
            wait_until(lambda: pool_is("warm"))
            network.refuse()
            network.reset()
            wait_until(lambda: pool_is("degraded", "warming"))
            network.heal()
            wait_until(lambda: pool_is("warm"))
            assert service.get("/ask", question=QUESTION)[0] == 200

            network.half_open()
            answer = client.submit(service.get, "/ask", question=QUESTION)
            wait_until(service.is_asked)
            service.process.send_signal(signal.SIGTERM)
            output, _ = service.process.communicate(timeout=30)
        assert service.process.returncode in (0, -signal.SIGTERM), output
        assert answer.exception() is not None or answer.result()[0] >= 500
    wait_until(lambda: server.backends(database) == 0)


@contextmanager
def locked(server: Server, database: str) -> Iterator[Any]:
    """Hold a lock on the collection. Gives a function that tells whether somebody waits for it."""
    waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    async def hold() -> None:
        connection = await asyncpg.connect(server.dsn(database))
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE preheat_handbook IN ACCESS EXCLUSIVE MODE")
                held.set()
                await anyio.to_thread.run_sync(release.wait)
        finally:
            await connection.close()

    held, release = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as holder:
        holding = holder.submit(anyio.run, hold)
        held.wait(30)
        try:
            yield lambda: server.sql(waits, database)
        finally:
            release.set()
            holding.result()

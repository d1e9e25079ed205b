from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from tests.support.embedded import wait_until_gone
from tests.support.server import database_folder

from preheat import Chunk, VectorStorage
from preheat.embedded import embedded_postgres


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.slow)], scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Most tests are about folders and processes; those of `test_sharing.py` run on both."""
    return request.param


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place for an embedded server; at the end, nothing may work for it any more."""
    with database_folder() as folder:
        yield folder
        wait_until_gone(folder)


@pytest.fixture(scope="session")
def made() -> Iterator[Path]:
    """The folder of a database with one chunk, which is not in use."""

    async def make() -> None:
        async with embedded_postgres(folder) as dsn, VectorStorage(dsn, "notes", 2) as storage:
            await storage.add([Chunk("kept", [1, 0])])

    with database_folder() as folder:
        anyio.run(make)
        yield folder


@pytest.fixture
def kept(made: Path, folder: Path) -> Path:
    """A folder with a copy of that database: it is there in less time than a new one."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["cp", "-a", made, folder], check=True)
    return folder

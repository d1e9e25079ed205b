"""Every Python example of README.md and docs/ is run, page by page, each page in a folder of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser
from tests.support.redis_server import PROGRAM, redis_server
from tests.support.web_server import web_server

from preheat.embedded import embedded_postgres


@pytest.fixture(scope="session")
def a_database() -> Iterator[None]:
    """Servers for the pages that have one: `DSN`, `SERVICE_URL`, and `REDIS_URL` where Redis is installed."""
    with (
        tempfile.TemporaryDirectory(prefix="preheat-docs-") as folder,
        pytest.MonkeyPatch.context() as patch,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(embedded_postgres(Path(folder) / "data")) as dsn,
        web_server() as web_port,
        redis_server() if PROGRAM else nullcontext() as redis_port,
    ):
        for name in list(os.environ):
            if name.startswith("PREHEAT_"):
                patch.delenv(name)
        patch.setenv("DSN", dsn)
        patch.setenv("SERVICE_URL", f"http://127.0.0.1:{web_port}/")
        if redis_port:
            patch.setenv("REDIS_URL", f"redis://127.0.0.1:{redis_port}")
        yield


def enter_folder(namespace: dict[str, Any]) -> None:
    """Go to an empty folder, as a reader would who tries the page out."""
    folder = tempfile.TemporaryDirectory(prefix="preheat-docs-", ignore_cleanup_errors=True)
    namespace["__folder__"] = (folder, Path.cwd())
    os.chdir(folder.name)


def leave_folder(namespace: dict[str, Any]) -> None:
    """Go back, and remove the folder."""
    folder, before = namespace.pop("__folder__")
    os.chdir(before)
    folder.cleanup()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md", "docs/*/*.md"],
    setup=enter_folder,
    teardown=leave_folder,
    fixtures=["a_database"],
).pytest()

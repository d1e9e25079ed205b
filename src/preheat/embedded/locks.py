"""The locks of a folder: who may start the server, who uses it, and whether it runs.

They are `flock`s on three files in the control folder. The kernel releases them when a process ends, so that a killed
process never counts as a user, and each block of a process counts for itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import threading
import time
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import Any

from ..errors import EmbeddedPostgresError
from .folder import CONTROL, Account

PAUSE_SECONDS = 0.01
"""Between two looks at a lock: waiting in the kernel could not be given up."""


class AbandonedError(Exception):
    """The caller has been cancelled: the thread that works for it gives up."""


class Locks:
    """The locks of one user of a folder.

    - `turn`: held while a user starts the server or leaves it.
    - `users`: shared by the users; the supervisor takes it for itself when it stops the server.
    - `server`: held by the supervisor; the file says where its sockets are.
    """

    def __init__(self, path: Path, account: Account) -> None:
        self._account = account
        self._files: dict[str, int] = {}
        self._lent: list[int] = []
        self._uses = False
        self._control = os.open(path / CONTROL, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        _open.add(self)
        try:
            found = os.fstat(self._control)
            if found.st_uid != account.uid or found.st_mode & 0o022:
                raise EmbeddedPostgresError(
                    f"the folder {path / CONTROL} is not private to user {account.name}; delete it while no program "
                    "uses the database"
                )
            if stat.S_IMODE(found.st_mode) != 0o700:  # a copy of a folder has the modes that its maker likes
                os.fchmod(self._control, 0o700)
            for name in ("turn", "users", "server"):
                self._files[name] = self.file(name)
        except BaseException:
            self.close()
            raise

    def file(self, name: str) -> int:
        """Open a lock's file: a lock that is taken on it is another one."""
        try:
            new = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._control)
        except FileExistsError:
            file = os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=self._control)
        else:
            file = new
            if os.geteuid() != self._account.uid:
                os.fchown(new, self._account.uid, self._account.gid)
        if file <= 2:  # a daemon may have closed the standard streams, whose numbers a child would take for them
            low, file = file, fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 3)
            os.close(low)
        return file

    @contextlib.contextmanager
    def lent(self, *names: str) -> Generator[list[int]]:
        """Files for a child process. A child that another thread forks meanwhile must not keep their locks."""
        try:
            for name in names:
                self._lent.append(self.file(name))
            yield list(self._lent)
        finally:
            self._close_lent()

    def _close_lent(self) -> None:
        while self._lent:
            os.close(self._lent.pop())

    @contextlib.contextmanager
    def turn(self, seconds: float, abandoned: threading.Event) -> Generator[None]:
        """Wait for one's turn, and hold it in the block."""
        _take(self._files["turn"], fcntl.LOCK_EX, seconds, abandoned)
        try:
            yield
        finally:
            fcntl.flock(self._files["turn"], fcntl.LOCK_UN)

    def use(self, seconds: float, abandoned: threading.Event) -> None:
        """Become a user. A server that is being stopped is waited for."""
        _take(self._files["users"], fcntl.LOCK_SH, seconds, abandoned)
        self._uses = True

    def leave(self, seconds: float) -> bool:
        """Be a user no longer, and wait until the server has stopped if there is no other one.

        Returns:
            Whether the server has stopped.
        """
        until, never = time.monotonic() + seconds, threading.Event()
        try:
            if not self._uses or not self._files:
                return False
            with self.turn(seconds, never):
                users = self._files["users"]
                fcntl.flock(users, fcntl.LOCK_UN)
                if not self.is_free("users") and try_lock(users, fcntl.LOCK_SH):
                    return False  # shared by others; else the supervisor stops the server, or is about to
                _take(self._files["server"], fcntl.LOCK_EX, until - time.monotonic(), never)
                return True
        except TimeoutError:
            return False  # it stops by itself
        finally:
            self.close()

    def is_free(self, name: str) -> bool:
        """Whether nobody holds a lock."""
        free = try_lock(self._files[name], fcntl.LOCK_EX)
        fcntl.flock(self._files[name], fcntl.LOCK_UN)
        return free

    def state(self) -> dict[str, Any]:
        """What the supervisor wrote of its server; empty if the server does not run yet."""
        try:
            found = json.loads(os.pread(self._files["server"], 65536, 0))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def close(self) -> None:
        """Release all locks."""
        _open.discard(self)
        self._close_lent()
        while self._files:
            os.close(self._files.popitem()[1])
        if self._control >= 0:
            control, self._control = self._control, -1
            os.close(control)


def try_lock(file: int, mode: int) -> bool:
    """Take a lock if it is free."""
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def pause(until: float, abandoned: threading.Event) -> None:
    """Wait a little, unless the time is up or the caller is gone."""
    if abandoned.wait(PAUSE_SECONDS):
        raise AbandonedError
    if time.monotonic() > until:
        raise TimeoutError


def _take(file: int, mode: int, seconds: float, abandoned: threading.Event) -> None:
    until = time.monotonic() + seconds
    while not try_lock(file, mode):
        pause(until, abandoned)


_open: weakref.WeakSet[Locks] = weakref.WeakSet()


def _forget_in_child() -> None:
    """A forked child is not a user: it would keep the server running after its parent was killed."""
    for locks in list(_open):
        locks.close()


os.register_at_fork(after_in_child=_forget_in_child)

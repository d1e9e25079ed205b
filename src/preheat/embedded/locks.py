"""The locks of a folder: they say who may start the server, who uses it, and whether it runs.

They are `flock`s on three files in the control folder. The kernel releases them when a process ends, so that a killed
process does not count as a user. Each block of a process opens the files anew, so that it counts as a user of its own.
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
"""The time between two attempts to take a lock: a wait in the kernel could not be cancelled."""


class AbandonedError(Exception):
    """The caller was cancelled, so the thread that works for it gives up."""


class Locks:
    """The locks of one user of a folder.

    - `turn`: exclusive; held while a user starts the server, joins it or leaves it.
    - `users`: shared by the users. The supervisor waits for it exclusively, gets it after the last user has left, and
      keeps it until its end.
    - `server`: exclusive; held by the supervisor. The file names the folder of the socket.

    A user takes `turn` before `users`, and waits for `server` only while it holds `turn`. The supervisor waits only for
    `users`. So they cannot wait for each other in a circle.
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
            if stat.S_IMODE(found.st_mode) != 0o700:  # a copy of a folder may have other modes
                os.fchmod(self._control, 0o700)
            for name in ("turn", "users", "server"):
                self._files[name] = self.file(name)
        except BaseException:
            self.close()
            raise

    def file(self, name: str) -> int:
        """Open the file of a lock anew. A lock on the result is independent of locks on the same file opened before."""
        try:
            new = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._control)
        except FileExistsError:
            file = os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=self._control)
        else:
            file = new
            if os.geteuid() != self._account.uid:
                os.fchown(new, self._account.uid, self._account.gid)
        # A daemon may have closed the standard streams. A child would take a file with their numbers for them.
        if file <= 2:
            low, file = file, fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 3)
            os.close(low)
        return file

    @contextlib.contextmanager
    def lent(self, *names: str) -> Generator[list[int]]:
        """Open lock files for a child process, for the time of the block.

        They are in `_lent`, so that a child that another thread forks meanwhile closes them: otherwise that child would
        keep their locks.
        """
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
        """Wait for the lock `turn`, and hold it in the block."""
        _take(self._files["turn"], fcntl.LOCK_EX, seconds, abandoned)
        try:
            yield
        finally:
            fcntl.flock(self._files["turn"], fcntl.LOCK_UN)

    def use(self, seconds: float, abandoned: threading.Event) -> None:
        """Become a user. This waits for a server that is stopping."""
        _take(self._files["users"], fcntl.LOCK_SH, seconds, abandoned)
        self._uses = True

    def leave(self, seconds: float) -> bool:
        """Stop being a user. The last user waits until the server has stopped.

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
                # Nobody becomes a user now, as this one has its turn. If the lock is held and can be shared, others use
                # the server. If it cannot be shared, the supervisor holds it; if it is free, the supervisor is about
                # to take it. In both cases the server stops.
                if not self.is_free("users") and try_lock(users, fcntl.LOCK_SH):
                    return False
                _take(self._files["server"], fcntl.LOCK_EX, until - time.monotonic(), never)
                return True
        except TimeoutError:
            return False  # the server stops by itself
        finally:
            self.close()

    def is_free(self, name: str) -> bool:
        """Whether nobody holds a lock: it is taken for a moment, and released."""
        free = try_lock(self._files[name], fcntl.LOCK_EX)
        fcntl.flock(self._files[name], fcntl.LOCK_UN)
        return free

    def state(self) -> dict[str, Any]:
        """The supervisor's record of its server; empty if the server does not run yet.

        The supervisor may be writing it at this moment. A part of a record is not JSON, and counts as empty.
        """
        try:
            found = json.loads(os.pread(self._files["server"], 65536, 0))
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    def close(self) -> None:
        """Release all locks of this user."""
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
    """Wait a little.

    Raises:
        AbandonedError: if the caller gave up.
        TimeoutError: at the time limit.
    """
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
    """Close the files in a forked child, which is not a user.

    A `flock` belongs to the open file that parent and child share, and ends when both have closed it. The child would
    keep the server running after its parent was killed. To close a file does not unlock it for the parent.
    """
    for locks in list(_open):
        locks.close()


os.register_at_fork(after_in_child=_forget_in_child)

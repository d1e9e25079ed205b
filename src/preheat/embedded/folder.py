"""The folder of a database: whether a server can start in it, or a database can be created, and as which user."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from ..errors import EmbeddedPostgresError

MAJOR_VERSION = 18

CONTROL = ".preheat"
"""The folder in the database's folder for the locks, the socket, and a database that is being created."""

FORMER_USERS = ".handle_pids.json"
"""The list of users that an earlier version kept in the folder."""

SYSTEM_USER = "pgserver"
"""The user of the server if the program runs as root."""

LONGEST_PATH = 900
"""The maximum length of the folder's path in bytes. PostgreSQL cuts paths at 1,024, and adds the paths of its files."""


@dataclass(frozen=True)
class Account:
    """The system user of a server."""

    uid: int
    gid: int

    @property
    def name(self) -> str:
        """The user's name, or its number if it has no name."""
        import pwd

        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)


def absolute(folder: str | os.PathLike[str]) -> Path:
    """The folder's path without links.

    Raises:
        EmbeddedPostgresError: if PostgreSQL could not use this path.
    """
    if not os.fspath(folder):
        raise EmbeddedPostgresError("the path of the folder is empty; name a folder, or write `.` for the current one")
    try:
        path = Path(folder).expanduser().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise EmbeddedPostgresError(f"{folder!r} is not a path ({error}); choose another folder") from error
    if any(character in str(path) for character in "\n\r"):
        raise EmbeddedPostgresError(f"the path {str(path)!r} has a line break; choose a folder without one")
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise EmbeddedPostgresError(f"the path {path} is longer than {LONGEST_PATH} bytes; choose a shorter one")
    return path


def check_folder(path: Path) -> None:
    """Raise :class:`EmbeddedPostgresError` if a server cannot start in `path`, and a database cannot be made there."""
    if not path.exists():
        if not path.parent.is_dir():
            raise EmbeddedPostgresError(f"the folder {path.parent} does not exist; make it, or choose another one")
        return
    if not path.is_dir():
        raise EmbeddedPostgresError(f"{path} is not a folder; choose another place for the database")
    version = path / "PG_VERSION"
    if not version.exists():
        ours = {CONTROL, FORMER_USERS, "lost+found"}
        if not (path / CONTROL / "made").exists() and any(entry.name not in ours for entry in path.iterdir()):
            raise EmbeddedPostgresError(
                f"the folder {path} holds something else than a database, or one that was never finished; "
                "choose an empty folder, or delete this one if nothing in it is needed"
            )
        return
    if former := former_mark(path):
        raise EmbeddedPostgresError(
            f"the database in {path} is half-made: making it was interrupted, as the file {former} says; delete both "
            "if nothing in the folder is needed, or choose another folder"
        )
    if not (path / "global" / "pg_control").exists():
        raise EmbeddedPostgresError(
            f"the database in {path} is half-made or damaged: {path}/global/pg_control is missing; "
            "restore the folder from a backup, or choose another one"
        )
    major = version.read_text(encoding="ascii", errors="replace").strip()
    if major == str(MAJOR_VERSION):
        return
    if not re.fullmatch("[0-9]+([.][0-9]+)?", major):
        raise EmbeddedPostgresError(
            f"the database in {path} is damaged: {version} has no version in it; "
            "restore the folder from a backup, or choose another one"
        )
    remedy = "upgrade it with pg_upgrade" if float(major) < MAJOR_VERSION else "use it with a newer preheat"
    raise EmbeddedPostgresError(
        f"the database in {path} was made by PostgreSQL {major} and this is PostgreSQL {MAJOR_VERSION}; "
        f"choose another folder, or {remedy}"
    )


def former_mark(path: Path) -> Path | None:
    """The file that an earlier version kept next to the folder while it created a database, if there is one."""
    mark = path.with_name(f".{path.name}.unfinished")
    with contextlib.suppress(OSError):  # its name may be too long
        return mark if mark.exists() else None
    return None


def account_for(path: Path) -> Account:
    """The system user of the server in this folder: the user of this process, or another one for root.

    Raises:
        EmbeddedPostgresError: if this user cannot use the folder.
    """
    if os.geteuid() == 0:
        owner = path.stat() if (path / "PG_VERSION").exists() else None
        if owner is None:
            return _system_user()
        if owner.st_uid == 0:
            raise EmbeddedPostgresError(
                f"the database in {path} belongs to root, as whom PostgreSQL refuses to run; "
                f"give it to another user, for example with `chown -R {_system_user().name} {path}`"
            )
        return Account(owner.st_uid, owner.st_gid)
    account = Account(os.geteuid(), os.getegid())
    for above in reversed(path.parents):
        if above.is_dir() and not os.access(above, os.X_OK):
            raise EmbeddedPostgresError(
                f"the folder {above} is closed to user {account.name}; choose another folder for the database"
            )
    if path.exists() and path.stat().st_uid != account.uid:
        owner_name = Account(path.stat().st_uid, 0).name
        raise EmbeddedPostgresError(
            f"the folder {path} belongs to user {owner_name} and this program runs as user {account.name}; "
            f"run it as {owner_name}, or choose another folder"
        )
    return account


def make_folder(path: Path, account: Account) -> None:
    """Create the folder and the control folder if they are missing, private to the server's user."""
    if not (path / "PG_VERSION").exists():
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except PermissionError as error:
            raise EmbeddedPostgresError(
                f"the folder {path} cannot be made, because user {account.name} may not write in {path.parent}; "
                "make it for this user, or choose another folder"
            ) from error
        if path.stat().st_uid != account.uid:
            os.chown(path, account.uid, account.gid)
    control = path / CONTROL
    if control.is_symlink() or (control.exists() and not control.is_dir()):
        raise EmbeddedPostgresError(f"{control} is not a folder; delete it, and start again")
    control.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() != account.uid and control.lstat().st_uid == os.geteuid():
        os.chown(control, account.uid, account.gid, follow_symlinks=False)


@contextlib.contextmanager
def told(path: Path) -> Generator[None]:
    """Turn an error of the operating system into an :class:`EmbeddedPostgresError` that names the remedy."""
    try:
        yield
    except TimeoutError:
        raise
    except OSError as error:
        place = error.filename if str(error.filename).startswith("/") else path
        user = Account(os.geteuid(), os.getegid()).name
        sentence = {
            errno.EACCES: f"user {user} has no permission for {place}; give it, or choose another folder",
            errno.EPERM: f"user {user} has no permission for {place}; give it, or choose another folder",
            errno.EROFS: f"the file system of {place} is read-only; choose another folder",
            errno.ENOSPC: f"the disk of {place} is full; free some space and start again",
            errno.EDQUOT: f"the disk quota for {place} is used up; free some space and start again",
            errno.EMFILE: "too many files are open; close some, or raise the limit",
            errno.ENFILE: "too many files are open; close some, or raise the limit",
            errno.ENOMEM: "there is not enough memory; free some and start again",
            errno.EAGAIN: "there are too many processes; end some and start again",
            errno.ENOTSUP: f"the file system of {place} has no file locks; choose a folder on another one",
            errno.ENOLCK: f"the file system of {place} has no file locks; choose a folder on another one",
        }.get(error.errno or 0, f"{error.strerror or error} ({place}); choose another folder")
        raise EmbeddedPostgresError(f"PostgreSQL did not start in {path}: {sentence}") from error


def _system_user() -> Account:
    """The user of a server that root starts; it is created if it is missing."""
    import pwd

    with contextlib.suppress(KeyError):
        return Account(*pwd.getpwnam(SYSTEM_USER)[2:4])
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/bin/false", SYSTEM_USER]
    try:
        made = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
        )
        reason = made.stderr.strip()
    except OSError as error:
        reason = str(error)
    with contextlib.suppress(KeyError):  # by this process, or by another one at the same time
        return Account(*pwd.getpwnam(SYSTEM_USER)[2:4])
    raise EmbeddedPostgresError(
        f"PostgreSQL refuses to run as root, and the system user {SYSTEM_USER} for it could not be made ({reason}); "
        "make this user, or run the program as another user than root"
    )

"""The parent process of an embedded server: makes the database, runs PostgreSQL, and stops it after its last user.

A user of the folder holds a shared lock on a file. The kernel releases the lock when that user ends, whatever way it
ends, and the supervisor then gets the exclusive one: SIGTERM, `kill -9` and Ctrl-C of a user need no code in the
dying process. As the parent of PostgreSQL the supervisor never signals a process id that belongs to something else.

This file is a program of its own, run by path with `-I -S`: it imports the standard library alone, and all of it at
once, because the interpreter may be out of reach as soon as root has been given up.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from typing import Any, NoReturn

FAST_SHUTDOWN_SECONDS = 60.0
"""How long PostgreSQL may take to end its sessions and write a checkpoint; after that it is stopped without one."""

OPTIONS = (
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth-local=trust",
    "--auth-host=reject",
)
"""Of `initdb`. The locale is PostgreSQL's own: that of `LANG` may be missing here, or where the folder is copied to."""

PR_SET_PDEATHSIG, PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 28, 47, 2
SECBIT_NO_SETUID_FIXUP = 4
"""Keeps capabilities when root is given up, and lets access(2), with which PostgreSQL looks for itself, see them."""
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """The server did not start, for a reason that is said in a sentence."""


def main() -> None:
    """Serve until the last user is gone. The argument is a JSON object that :mod:`preheat.embedded.server` writes."""
    job = json.loads(sys.argv[1])
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a program that ignores or blocks signals has children that do
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        if job["uid"] != os.geteuid():
            become(job)
        threading.Thread(target=_end_after_last_user, args=[job["users"]], daemon=True).start()
        make(job)
        with serving(job) as postgres:
            postgres.wait()
    except (StartError, OSError) as error:
        _report({"problem": str(error)})
    finally:
        os.ftruncate(job["server"], 0)


def _end(*_: object) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit


def _end_after_last_user(users: int) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    fcntl.flock(users, fcntl.LOCK_EX)  # and kept: who comes now waits until this process has ended
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _report(words: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the starter may be gone
        os.write(1, f"\n{json.dumps(words)}\n".encode())
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


# ---- root is given up


def become(job: dict[str, Any]) -> None:
    """Be the server's user, with no right of root's, or with one where this user could not reach the files.

    A home is closed to others, and so is a temporary folder. Opening them would show their content to everybody, so
    the server is given the capability to pass through closed folders instead (the one to ignore modes where a
    container has no other). Its only client is root, who may do all of this anyway.
    """
    uid, gid = job["uid"], job["gid"]
    keeps = sys.platform == "linux" and _prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    try:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    except OSError as error:
        raise StartError(f"root cannot become user {job['account']} here ({error.strerror})") from error
    kept = _permitted() & (1 << CAP_DAC_READ_SEARCH | 1 << CAP_DAC_OVERRIDE) if keeps else 0
    for right in (0, kept & 1 << CAP_DAC_READ_SEARCH, kept & 1 << CAP_DAC_OVERRIDE):
        if (not keeps or (_set_capabilities(kept, right) and _ambient(right))) and _reaches(job):
            if keeps:
                _set_capabilities(right, right)
            return
    raise StartError(_closed(job))


def _prctl(*numbers: int) -> bool:
    return bool(_libc.prctl(*[ctypes.c_ulong(number) for number in [*numbers, 0, 0, 0, 0][:5]]) == 0)


def _permitted() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        found = re.search(r"^CapPrm:\s*([0-9a-f]+)", status.read(), re.MULTILINE)
    return int(found[1], 16) if found else 0


def _set_capabilities(permitted: int, effective: int) -> bool:
    header = struct.pack("<Ii", 0x20080522, 0)
    return bool(_libc.capset(header, struct.pack("<6I", effective, permitted, effective, 0, 0, 0)) == 0)


def _ambient(right: int) -> bool:
    return right == 0 or _prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, right.bit_length() - 1)


def _reaches(job: dict[str, Any]) -> bool:
    """Whether this user can read and run what the server needs."""
    try:
        for file in job["needs"]:
            os.close(os.open(file, os.O_RDONLY))
        subprocess.run([job["postgres"], "-V"], check=True, capture_output=True)  # noqa: S603
    except PermissionError:
        return False
    except (OSError, subprocess.SubprocessError) as error:
        raise StartError(f"{job['postgres']} cannot be run ({error})") from error
    return True


def _closed(job: dict[str, Any]) -> str:
    """Which folder, or which file, keeps this user out."""
    for file in [*job["needs"], job["postgres"]]:
        parts = file.split("/")
        for end in range(2, len(parts) + 1):
            try:
                os.stat("/".join(parts[:end]))
            except OSError:
                closed = "/".join(parts[: end - 1]) or "/"
                return (
                    f"the folder {closed} is closed to user {job['account']}, as whom PostgreSQL runs because it "
                    f"refuses to run as root; open it with `chmod o+x`, or choose another place"
                )
    return f"user {job['account']} may not read {job['postgres']}; install preheat[embedded] where it may"


# ---- the database is made


def make(job: dict[str, Any]) -> None:
    """Make the database if it is missing: beside its place first, so that a half-made one is never taken for one.

    `PG_VERSION` comes last into the folder. What was made but not moved is moved by the next start.
    """
    folder, control = job["folder"], job["control"]
    made = f"{control}/made"
    if os.path.exists(f"{folder}/PG_VERSION"):
        with contextlib.suppress(OSError):
            os.rmdir(made)
        if os.stat(folder).st_mode & 0o027:  # as a copy may be: PostgreSQL refuses a folder that is open to others
            os.chmod(folder, 0o700)
        return
    if not os.path.exists(made):
        os.mkdir(f"{control}/new", 0o700)
        command = [job["initdb"], *OPTIONS, "-D", f"{control}/new"]
        with _child(command, signal.SIGTERM, stderr=subprocess.PIPE) as initdb:
            said = initdb.communicate()[1].decode(errors="replace")
        if initdb.returncode != 0:
            raise StartError(_how("initdb", initdb.returncode, said, folder))
        os.rename(f"{control}/new", made)
    os.chmod(folder, 0o700)
    for name in sorted(os.listdir(made), key=lambda name: name == "PG_VERSION"):
        if name == "PG_VERSION":
            _sync(folder)
        os.rename(f"{made}/{name}", f"{folder}/{name}")
    os.rmdir(made)


def _sync(folder: str) -> None:
    entry = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)


# ---- the server runs


@contextlib.contextmanager
def serving(job: dict[str, Any]) -> Generator[subprocess.Popen[bytes]]:
    """Run PostgreSQL, report when it is ready, and stop it at the end."""
    folder, sockets = job["folder"], job["sockets"]
    if job["sockets_before"]:
        _remove_sockets(job["sockets_before"], job["control"])
    _remove_sockets(sockets, sockets)
    quoted = sockets.replace('"', '""')
    command = [job["postgres"], "-D", folder, "-h", "", "-p", "5432", "-k", f'"{quoted}"']
    command += ["-c", "unix_socket_permissions=0700", *job["options"]]
    try:
        with open(f"{folder}/log", "ab") as log:
            before = log.tell()
            with _child(command, signal.SIGINT, stderr=log) as postgres:
                while not _ready(folder, postgres.pid):
                    if postgres.poll() is not None:
                        with open(f"{folder}/log", "rb") as lines:
                            lines.seek(before)
                            said = lines.read().decode(errors="replace")
                        raise StartError(_how("postgres", postgres.returncode, said, folder))
                    time.sleep(0.01)
                place = {"sockets": sockets, "postmaster": postgres.pid}
                os.pwrite(job["server"], json.dumps(place).encode(), 0)
                _report(place)
                yield postgres
    finally:
        _remove_sockets(sockets, job["control"])


@contextlib.contextmanager
def _child(command: list[str], end: signal.Signals, stderr: Any) -> Generator[subprocess.Popen[bytes]]:
    """A child process that ends with the block, and with this process even if that is killed (on Linux)."""
    own, linux = os.getpid(), sys.platform == "linux"

    def ends_with_parent() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(end))
        if os.getppid() != own:
            os._exit(1)

    process = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=stderr if stderr is not subprocess.PIPE else subprocess.DEVNULL,
        stderr=stderr,
        preexec_fn=ends_with_parent if linux else None,  # noqa: PLW1509 - the other thread waits in the kernel
    )
    try:
        yield process
    finally:
        for stronger in (end, signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(stronger)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(FAST_SHUTDOWN_SECONDS)
                break


def _ready(folder: str, pid: int) -> bool:
    try:
        with open(f"{folder}/postmaster.pid", encoding="utf-8", errors="replace") as file:
            lines = file.read().split("\n")
    except OSError:
        return False
    return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _how(program: str, returncode: int, said: str, folder: str) -> str:
    """How a program ended, in its own words if there are any, and what to do about it."""
    if reason := re.search(r"(?:FATAL|PANIC|[Ee]rror):\s+(?!the database system is)(.*)", said):
        how = f"{program} says: {reason[1]}"
    elif returncode < 0:
        how = f"{program} was ended by signal {-returncode} ({signal.strsignal(-returncode)}); start again"
    elif program == "initdb" and said.strip():
        how = f"initdb says: {said.strip().splitlines()[-1]}"
    else:
        how = f"{program} ended with code {returncode}"
    if os.strerror(errno.ENOSPC) in said or os.statvfs(folder).f_bavail == 0:
        return f"the disk is full ({how}); free some space and start again"
    if os.strerror(errno.EROFS) in said:
        return f"{how}; choose a folder that can be written"
    return f"{how}; the log is {folder}/log" if program == "postgres" else how


def _remove_sockets(folder: str, control: str) -> None:
    """Remove the server's socket, and the folder if it was made for it."""
    with contextlib.suppress(OSError):
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{folder}/{name}")
        if folder != control:
            os.rmdir(folder)


if __name__ == "__main__":
    main()

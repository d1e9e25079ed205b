"""The parent process of an embedded server: creates the database, runs PostgreSQL, and stops it after its last user.

A user of the folder holds a shared lock on a file. The kernel releases the lock when the user's process ends, and the
supervisor then gets the exclusive lock. So a user that ends by SIGTERM, `kill -9` or Ctrl-C need not run any code. As
the parent of PostgreSQL the supervisor never signals a recycled process id: the id of a child stays reserved until its
parent reaps it.

This file is a program of its own, run by its path with `-I -S`. It imports only the standard library, and all of it at
the start, because the interpreter's files may be out of reach after root has been given up.
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
"""How long PostgreSQL may take to end its sessions and write a checkpoint; after that it is stopped at once."""

OPTIONS = (
    "--username=postgres",
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--auth-local=trust",
    "--auth-host=reject",
)
"""The options of `initdb`. The locale is built into PostgreSQL, because the one of `LANG` may be missing on the machine
that the folder is copied to."""


def memory_settings() -> dict[str, str]:
    """Settings of a new database for the memory of this machine, of which the server shall be one program of several:
    an eighth for shared buffers, up to 1 GB, and half for the planner's estimate of what is cached. `initdb` writes
    them into `postgresql.conf`, where they can be changed."""
    try:
        megabytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    except (OSError, ValueError, AttributeError):
        return {}
    return {
        "shared_buffers": f"{min(max(megabytes // 8, 128), 1024)}MB",
        "effective_cache_size": f"{max(megabytes // 2, 256)}MB",
        "maintenance_work_mem": f"{min(max(megabytes // 64, 64), 256)}MB",
        "max_wal_size": "2GB",
        "random_page_cost": "1.1",
    }


PR_SET_PDEATHSIG, PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 28, 47, 2
SECBIT_NO_SETUID_FIXUP = 4
"""Keeps capabilities when root is given up, and makes access(2) respect them, with which PostgreSQL finds itself."""
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2

_libc = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """The server did not start; the message is a sentence with the reason."""


def main() -> None:
    """Serve until the last user has left. The argument is a JSON object that :mod:`preheat.embedded.server` writes."""
    job = json.loads(sys.argv[1])
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a child inherits ignored and blocked signals
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
    """Handle SIGTERM: end the main thread once. A second SIGTERM must not interrupt the cleanup."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit


def _end_after_last_user(users: int) -> None:
    """In a thread: wait for the end of the last user, then make the main thread end.

    The lock is kept. A user that comes now waits until this process has ended, and then starts another supervisor; so
    it never joins a server that is stopping. All signals are blocked here, so that they go to the main thread.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    fcntl.flock(users, fcntl.LOCK_EX)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _report(words: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the process that started this one may have ended
        os.write(1, f"\n{json.dumps(words)}\n".encode())
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


# ---- root is given up


def become(job: dict[str, Any]) -> None:
    """Become the server's user, without root's rights, or with one right if this user cannot reach the files otherwise.

    Home folders and temporary folders are often closed to other users. To open them would show their content to
    everybody. So the server gets the capability to pass through closed folders instead, or to ignore file modes, if a
    container has only that one. The only client of the server is root, who has these rights anyway.
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
    """Whether this user can read and run the files that the server needs."""
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
    """A sentence about the folder or the file that keeps this user out."""
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


# ---- the database is created


def make(job: dict[str, Any]) -> None:
    """Create the database if it is missing.

    `initdb` works in the control folder, in `new-` and the number of this process: the `initdb` of a supervisor that
    was killed empties its own folder as it ends, and may do so while the next one works. The finished database is
    renamed to `made`, and its entries are then moved to the folder, `PG_VERSION` last. A crash at any point is safe:
    without `made` the next start runs `initdb` again, with `made` it goes on to move the entries, and with
    `PG_VERSION` everything has been moved.
    """
    folder, control = job["folder"], job["control"]
    made = f"{control}/made"
    if os.path.exists(f"{folder}/PG_VERSION"):
        with contextlib.suppress(OSError):
            os.rmdir(made)
        if os.stat(folder).st_mode & 0o027:  # a copy may be open to others, which PostgreSQL refuses
            os.chmod(folder, 0o700)
        return
    if not os.path.exists(made):
        new = f"{control}/new-{os.getpid()}"
        os.mkdir(new, 0o700)
        settings = [f"--set={name}={value}" for name, value in memory_settings().items()]
        command = [job["initdb"], *OPTIONS, *settings, "-D", new]
        with _child(command, signal.SIGTERM, stderr=subprocess.PIPE) as initdb:
            said = initdb.communicate()[1].decode(errors="replace")
        if initdb.returncode != 0:
            raise StartError(_how("initdb", initdb.returncode, said, folder))
        os.rename(new, made)
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
    """Run PostgreSQL, report when it is ready, and stop it at the end of the block."""
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
    """Run a child process that ends with the block, and on Linux also with this process, even if that is killed."""
    own, linux = os.getpid(), sys.platform == "linux"

    def ends_with_parent() -> None:
        # The kernel signals the child at the death of its parent. A parent that died before prctl() is missed by that,
        # so check afterwards whether the parent is still the same.
        _libc.prctl(PR_SET_PDEATHSIG, int(end))
        if os.getppid() != own:
            os._exit(1)

    process = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,
        stdout=stderr if stderr is not subprocess.PIPE else subprocess.DEVNULL,
        stderr=stderr,
        preexec_fn=ends_with_parent if linux else None,  # noqa: PLW1509 - the other thread waits in the kernel and holds no lock of Python's
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
    """A sentence: how a program ended, with its own message if there is one, and the remedy."""
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
    """Remove the server's socket, and its folder if that was made for the socket."""
    with contextlib.suppress(OSError):
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{folder}/{name}")
        if folder != control:
            os.rmdir(folder)


if __name__ == "__main__":
    main()

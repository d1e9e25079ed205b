"""The server is private, whatever its folder is called: nobody else reaches it, and nothing else is changed or told."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from tests.support.embedded import NOBODY, USER, interpreter, leave, line, postmaster, supervisor, user_of

from preheat import Chunk, EmbeddedPostgresError, VectorStorage
from preheat.embedded import embedded_postgres

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def sockets(dsn: str) -> Path:
    return Path(parse_qs(urlsplit(dsn).query)["host"][0])


def check_private(folder: Path, dsn: str) -> None:
    found = sockets(dsn).lstat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o700, folder.stat().st_uid)
    socket = sockets(dsn) / ".s.PGSQL.5432"
    assert socket.is_socket()
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    pid = postmaster(folder)
    assert pid is not None
    assert not [c for c in psutil.Process(pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]


HOSTILE = "a $(touch ran)`touch ran`;touch ran& 'b' \"c\" ü数\\ %20 "


@pytest.mark.parametrize("name", [HOSTILE, "x" * 250], ids=["hostile", "long"])
async def test_a_database_is_made_in_a_folder_of_any_name(folder: Path, name: str) -> None:
    folder.mkdir()
    data = folder / name
    async with embedded_postgres(data) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        await storage.add([Chunk("kept", [1, 0])])
        check_private(data, dsn)
        async with embedded_postgres(data) as again:
            assert again == dsn
    assert [entry.name for entry in folder.iterdir()] == [name]  # no program in it was run


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(
    "name", ["my data", "a,b", "per%20cent&host=x#y", " tab\tand space ", "-D", '"', "'", "$HOME", "@x"]
)
async def test_a_server_runs_in_a_folder_of_any_name(kept: Path, name: str) -> None:
    data = kept.rename(kept.parent / name)
    async with embedded_postgres(data) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        assert await storage.count() == 1
        check_private(data, dsn)


async def test_a_deep_folder_has_its_socket_in_a_private_folder_that_is_removed(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = kept.parent / ("deep" * 20)
    deep.mkdir()
    kept.rename(deep / "data")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    async with embedded_postgres(deep / "data") as dsn, VectorStorage(dsn, "notes", 2) as storage:
        assert await storage.count() == 1
        check_private(deep / "data", dsn)
        assert len(str(sockets(dsn) / ".s.PGSQL.5432")) < 100
        before = sockets(dsn)
        supervisor(deep / "data").kill()
    async with embedded_postgres(deep / "data") as dsn:
        assert not before.exists()  # what the crash left
    assert not sockets(dsn).exists()


async def test_a_socket_whose_folder_is_open_to_others_is_not_used(kept: Path) -> None:
    async with embedded_postgres(kept) as dsn:
        sockets(dsn).chmod(0o777)
        with pytest.raises(EmbeddedPostgresError, match="is not private to user"):
            async with embedded_postgres(kept):
                pass
        sockets(dsn).chmod(0o700)


async def test_the_folders_above_keep_their_modes(folder: Path) -> None:
    home = folder / "home"
    home.mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    async with embedded_postgres(home / "data") as dsn, VectorStorage(dsn, "notes", 2) as storage:
        assert await storage.warm_pool()
        check_private(home / "data", dsn)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, home)] == [0o700, 0o700]


async def test_no_secret_of_the_environment_reaches_the_server(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("PGPASSWORD", "secret")
    monkeypatch.setenv("PGPORT", "5999")
    monkeypatch.setenv("PGDATA", "/nonexistent")
    async with embedded_postgres(kept) as dsn:
        pid = postmaster(kept)
        assert pid is not None
        for process in (supervisor(kept), psutil.Process(pid), *psutil.Process(pid).children()):
            names = set(process.environ())
            assert {name for name in names if not name.startswith("LC_")} <= {
                *("PATH", "LANG", "LANGUAGE", "TZ", "LOCPATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "HOME"),
                *("PG_GRANDPARENT_PID", "PGDATA"),
            }, process
        async with VectorStorage(dsn, "notes", 2) as storage:
            assert await storage.count() == 1  # PGPORT is not the server's port


@root
def test_another_user_of_the_machine_reaches_neither_the_server_nor_its_files(kept: Path) -> None:
    kept.parent.chmod(0o755)
    with user_of(kept) as user:
        place = sockets(line(user))
        script = (
            "import socket, sys\n"
            "try: socket.socket(socket.AF_UNIX).connect(sys.argv[1])\n"
            "except PermissionError: print('closed')\n"
        )
        command = [interpreter(), "-c", script, str(place / ".s.PGSQL.5432")]
        told = subprocess.run(
            command, check=False, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, text=True
        )
        assert told.stdout.strip() == "closed", told
        leave(user)


@root
def test_two_users_of_one_machine_have_a_server_each_at_the_same_time(kept: Path) -> None:
    kept.parent.chmod(0o755)
    other = kept.parent / "other"
    subprocess.run(["cp", "-a", kept, other], check=True)
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", other], check=True)
    with user_of(kept) as first, user_of(other, uid=NOBODY) as second:
        assert sockets(line(first)) != sockets(line(second))
        leave(second)
        assert postmaster(other) is None
        assert postmaster(kept) is not None
        leave(first)


@root
def test_a_user_that_is_not_root_makes_a_database(folder: Path) -> None:
    folder.mkdir()
    folder.parent.chmod(0o755)
    os.chown(folder, NOBODY, NOBODY)
    with user_of(folder / "data", uid=NOBODY) as user:
        assert line(user).startswith("postgresql://")
        leave(user)


@root
@pytest.mark.parametrize(
    ("dropped", "told"),
    [
        ("-dac_read_search", "postgresql://"),
        ("-setpcap", "PostgreSQL did not start in {folder}: the folder {parent} is closed to user"),
        ("-dac_read_search,-dac_override", "user root has no permission for {folder}"),
    ],
)
def test_where_root_has_fewer_rights_the_server_starts_or_the_folder_is_named(
    kept: Path, dropped: str, told: str
) -> None:
    """As in a container: Docker's default has no `dac_read_search`."""
    python = [sys.executable, "-c", USER, str(kept), "asyncio"]
    command = ["setpriv", "--bounding-set", dropped, *python]
    said = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert told.format(folder=kept, parent=kept.parent) in said.stdout, said


def test_a_daemon_without_standard_streams_uses_a_server(kept: Path) -> None:
    script = (
        "import os, sys, anyio\n"
        "from preheat import VectorStorage\n"
        "from preheat.embedded import embedded_postgres\n"
        "async def main():\n"
        "    for stream in (0, 1, 2): os.close(stream)\n"
        "    async with embedded_postgres(sys.argv[1]) as dsn, VectorStorage(dsn, 'notes', 2) as storage:\n"
        "        os._exit(40 + await storage.count())\n"
        "anyio.run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(kept)], check=False, timeout=50)
    assert done.returncode == 41

"""A folder that cannot be used is refused in a sentence with the remedy, and nothing in it is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.embedded import NOBODY, interpreter, leave, line, processes, user_of

from preheat import EmbeddedPostgresError, VectorStorage
from preheat.embedded import embedded_postgres, server

root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, or mount")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One of them: what a folder is found to be does not depend on the event loop."""
    return "asyncio"


async def refused(folder: Path) -> str:
    with pytest.raises(EmbeddedPostgresError) as caught:
        async with embedded_postgres(folder):
            pass
    assert str(folder.parent) in str(caught.value)
    assert not processes(folder)
    return str(caught.value)


async def test_folders_that_cannot_be_used_are_named_with_the_remedy(folder: Path) -> None:
    folder.write_text("a file")
    assert "is not a folder; choose another place" in await refused(folder)
    folder.unlink()

    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    assert "something else than a database" in await refused(folder)
    assert [entry.name for entry in folder.iterdir()] == ["thesis.txt"]
    with pytest.raises(EmbeddedPostgresError, match="does not exist; make it"):
        async with embedded_postgres(folder / "a" / "b"):
            pass
    with pytest.raises(EmbeddedPostgresError, match="line break"):
        async with embedded_postgres(folder / "a\nb"):
            pass
    with pytest.raises(EmbeddedPostgresError, match="choose another folder"):
        async with embedded_postgres(folder / ("x" * 300)):
            pass
    with pytest.raises(EmbeddedPostgresError, match="is empty; name a folder"):
        async with embedded_postgres(""):
            pass


async def test_a_database_of_another_major_version_is_left_as_it_is(kept: Path) -> None:
    (kept / "PG_VERSION").write_text("12\n")
    before = sorted(kept.rglob("*"))

    assert "made by PostgreSQL 12 and this is PostgreSQL 18; choose another folder, or upgrade" in await refused(kept)
    assert sorted(kept.rglob("*")) == before
    (kept / "PG_VERSION").write_text("19\n")
    assert "choose another folder, or use it with a newer preheat" in await refused(kept)


async def test_a_damaged_database_is_not_to_be_deleted(kept: Path) -> None:
    control = kept / "global" / "pg_control"
    content = control.read_bytes()
    control.write_bytes(b"")
    told = await refused(kept)
    assert "did not start" in told
    assert "pg_control" in told
    assert "delete" not in told
    control.unlink()
    assert "half-made or damaged" in (told := await refused(kept))
    assert "delete" not in told
    control.touch()
    (kept / "PG_VERSION").write_text("")
    assert "PG_VERSION has no version in it; restore the folder from a backup" in await refused(kept)
    (kept / "PG_VERSION").write_text("18\n")

    control.write_bytes(content)
    os.chown(control, kept.stat().st_uid, kept.stat().st_gid)
    async with embedded_postgres(kept) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        assert await storage.count() == 1


async def test_the_cause_is_that_of_this_start(kept: Path) -> None:
    log = kept / "log"
    log.write_text("2020-01-01 FATAL:  an old sorrow\n")
    os.chown(log, kept.stat().st_uid, kept.stat().st_gid)
    with (kept / "postgresql.conf").open("a") as settings:
        settings.write("\nshared_preload_libraries = 'no_such_library'\n")
    told = await refused(kept)
    assert 'postgres says: could not access file "no_such_library"' in told
    assert "sorrow" not in told


@pytest.mark.parametrize("content", ["[1]", "5", "null", "{", '{"sockets": 5, "postmaster": "x"}'])
async def test_a_damaged_note_of_the_last_server_does_not_matter(kept: Path, content: str) -> None:
    (kept / ".preheat" / "server").write_text(content)
    async with embedded_postgres(kept) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        assert await storage.count() == 1


async def test_a_file_or_a_link_in_place_of_the_control_folder_is_not_followed(kept: Path, tmp_path: Path) -> None:
    control = kept / ".preheat"
    shutil.rmtree(control)
    control.touch()
    assert f"{control} is not a folder; delete it" in await refused(kept)
    control.unlink()
    control.symlink_to(tmp_path)
    assert f"{control} is not a folder; delete it" in await refused(kept)
    assert not list(tmp_path.iterdir())


async def test_a_folder_of_the_former_version_is_used(kept: Path) -> None:
    shutil.rmtree(kept / ".preheat")
    (kept / ".handle_pids.json").write_text("[1, 2")
    kept.with_name(f".{kept.name}.lock").touch()
    async with embedded_postgres(kept) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        assert await storage.count() == 1


async def test_a_database_that_the_former_version_never_finished_is_refused_until_it_is_deleted(kept: Path) -> None:
    mark = kept.with_name(f".{kept.name}.unfinished")
    mark.touch()
    assert "half-made" in await refused(kept)
    assert (kept / "PG_VERSION").exists()
    shutil.rmtree(kept)
    async with embedded_postgres(kept):
        assert not mark.exists()


async def test_the_root_of_a_disk_is_a_folder_like_any_other(folder: Path) -> None:
    folder.mkdir()
    (folder / "lost+found").mkdir()
    async with embedded_postgres(folder):
        assert (folder / "PG_VERSION").exists()
    assert (folder / "lost+found").is_dir()


@root
def test_a_folder_of_another_user_is_refused_with_both_names(kept: Path) -> None:
    kept.parent.chmod(0o755)
    with user_of(kept, uid=NOBODY) as user:
        told = line(user)
    owner = kept.owner()
    assert told.endswith(
        f"the folder {kept} belongs to user {owner} and this program runs as user nobody; "
        f"run it as {owner}, or choose another folder"
    )


@root
def test_a_folder_that_may_not_be_made_or_reached_is_named_with_the_user(folder: Path) -> None:
    with user_of(folder, uid=NOBODY) as user:
        assert f"the folder {folder.parent} is closed to user nobody; choose another folder" in line(user)
    folder.parent.chmod(0o755)
    with user_of(folder, uid=NOBODY) as user:
        assert f"cannot be made, because user nobody may not write in {folder.parent}; make it" in line(user)


@root
def test_a_user_without_a_name_uses_a_database_but_makes_none(kept: Path) -> None:
    """As in a container that runs as some number."""
    kept.parent.chmod(0o777)
    nameless = 54321
    with user_of(kept.parent / "new", uid=nameless) as user:
        assert "user 54321 has no name on this system, without which initdb makes no database; give" in line(user)
    subprocess.run(["chown", "-R", f"{nameless}:{nameless}", kept], check=True)
    with user_of(kept, uid=nameless) as user:
        assert line(user).startswith("postgresql://")
        leave(user)


@pytest.fixture
def disk(folder: Path) -> Iterator[Path]:
    """A small disk of its own."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m,mode=755", "preheat", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("no right to mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


@root
async def test_a_full_disk_is_reported_before_and_after_the_database_is_made(disk: Path) -> None:
    filler = disk / "filler"
    filler.write_bytes(bytes(40 * 2**20))
    data = disk / "data"
    told = await refused(data)
    assert "the disk is full" in told
    assert "No space left on device" in told
    assert "free some space and start again" in told
    filler.unlink()
    async with embedded_postgres(data) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        await storage.create()

    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    told = await refused(data)
    assert "the disk is full" in told
    assert "delete" not in told
    filler.unlink()
    async with embedded_postgres(data) as dsn, VectorStorage(dsn, "notes", 2) as storage:
        assert await storage.count() == 0


@root
async def test_a_read_only_disk_is_reported(disk: Path, made: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=200m", disk], check=True)
    subprocess.run(["cp", "-a", made, disk / "data"], check=True)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for name in ("data", "new"):
        told = await refused(disk / name)
        assert "read-only; choose another folder" in told


@root
def test_a_database_of_root_is_refused_with_the_command_that_gives_it_away(kept: Path) -> None:
    os.chown(kept, 0, 0)
    with user_of(kept) as user:
        told = line(user)
        assert "belongs to root, as whom PostgreSQL refuses to run; give it to another user" in told
        assert f"`chown -R pgserver {kept}`" in told


@root
def test_root_runs_the_server_of_another_users_database_as_that_user(kept: Path) -> None:
    kept.parent.chmod(0o755)
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", kept], check=True)
    for uid in (None, NOBODY):
        with user_of(kept, uid=uid) as user:
            assert line(user).startswith("postgresql://")
            leave(user)
    assert {entry.stat().st_uid for entry in kept.rglob("*")} == {NOBODY}


async def test_a_copy_of_a_folder_in_use_is_a_database_of_its_own(kept: Path) -> None:
    deep = kept.parent / ("deep" * 20)
    deep.mkdir()
    first = kept.rename(deep / "data")
    copy = deep / "copy"
    async with embedded_postgres(first) as dsn:
        subprocess.run(["cp", "-r", first, copy], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["chown", "-R", "--reference", first, copy], check=True)
        copy.chmod(0o755)
        (copy / ".preheat").chmod(0o755)
        async with embedded_postgres(copy) as other, VectorStorage(other, "notes", 2) as storage:
            assert other != dsn
            assert await storage.count() == 1
        async with VectorStorage(dsn, "notes", 2) as storage:
            assert await storage.count() == 1


@root
def test_the_command_line_names_the_folder_the_user_and_the_remedy(folder: Path) -> None:
    folder.parent.chmod(0o755)
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "HOME": str(folder), "PATH": ""}
    command = [interpreter(), "-m", "preheat", "search", "cats", "--data", str(folder)]
    for arguments, told in (
        (command, f"the folder {folder} cannot be made, because user nobody may not write in {folder.parent}"),
        (command[:-2], f"the folder {folder}/.local/share/preheat cannot be made by user nobody"),
    ):
        done = subprocess.run(
            arguments,
            check=False,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert told in " ".join(done.stderr.split()), done
        assert "choose another" in done.stderr


@root
def test_the_command_line_of_a_user_without_name_and_home_asks_for_a_folder() -> None:
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PATH": ""}
    command = [interpreter(), "-m", "preheat", "search", "cats"]
    done = subprocess.run(
        command,
        check=False,
        user=54321,
        group=54321,
        extra_groups=[],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "there is no folder for data" in done.stderr
    assert "choose one with --data" in " ".join(done.stderr.split())


async def test_programs_in_a_path_that_a_shell_would_read_are_not_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL's own `initdb` puts the path of its programs into a shell."""
    monkeypatch.setattr(server, "programs", lambda: folder.parent / "$(touch ran)" / "bin")
    assert "install preheat[embedded] in a folder of another name" in await refused(folder)

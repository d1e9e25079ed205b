"""`preheat serve` and `preheat info`: which database the commands use."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.server import free_port

from preheat import IngestReport
from preheat.cli.commands.ingest import Ingested

COMMAND = [sys.executable, "-m", "preheat"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another signal there")
def test_other_commands_use_the_server_that_serve_runs(folder: Path, library: Path, backend: str) -> None:
    environment = {**os.environ, "PREHEAT_DATA": str(folder)}
    for variable in ("PREHEAT_DSN", "DATABASE_URL"):
        environment.pop(variable, None)

    def preheat(*arguments: str) -> Any:
        command = [*COMMAND, *arguments, "--backend", backend, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=60)
        return json.loads(done.stdout)

    serve = [*COMMAND, "serve", "--backend", backend]
    with subprocess.Popen(serve, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True) as serving:
        assert serving.stdout is not None
        assert serving.stdout.readline() == f"PostgreSQL runs in {folder}; end it with Ctrl-C\n"
        dsn = serving.stdout.readline().removeprefix("DSN: ").strip()
        postmaster = (folder / "postmaster.pid").read_text().split()[0]
        assert preheat("ingest", str(library))["chunks"] == 2
        assert preheat("search", "taxes", "-k", "1")[0]["text"] == "Income tax is due in May."
        info = preheat("info")
        assert (info["dsn"], info["folder"]) == (dsn, str(folder))
        assert preheat("collections", "--dsn", dsn)[0]["chunks"] == 2
        assert (folder / "postmaster.pid").read_text().split()[0] == postmaster, "no command has started another one"
        serving.send_signal(signal.SIGINT)
        _, told = serving.communicate(timeout=30)

    assert (serving.returncode, told) == (130, "stopped\n")
    assert not (folder / "postmaster.pid").exists()


def test_info_names_the_database_and_the_versions(preheat: Any, dsn: str, backend: str) -> None:
    told = preheat("info", "--backend", backend)
    assert told.exit_code == 0
    assert "PostgreSQL" in told.stdout
    assert "folder" not in told.stdout, "no embedded PostgreSQL is used"

    info = json.loads(preheat("info", "--json", "--backend", backend).stdout)
    assert info["dsn"].startswith("postgresql://")
    assert ":***@" in info["dsn"]
    assert info["postgresql"].split(".")[0].isdigit()
    assert {"preheat", "anyio", "asyncpg"} <= set(info["packages"])


def test_info_tells_why_a_server_cannot_be_asked(preheat: Any) -> None:
    told = preheat("info", "--dsn", f"postgresql://me:s3cret@127.0.0.1:{free_port()}/db", "--connect-timeout", "5")
    assert told.exit_code == 1
    assert "postgresql://me:***@127.0.0.1" in told.stdout
    assert told.stderr.startswith("error: ")


def test_ctrl_c_says_what_is_stored_and_how_to_go_on() -> None:
    done = Ingested("papers")
    assert done.interrupted() == "interrupted: nothing new is stored; run the same command again to go on"
    done.report = IngestReport(documents=1, added=2)
    assert done.interrupted() == (
        "interrupted: 1 document with 2 chunks stored in collection papers; run the same command again to go on"
    )


def test_serve_refuses_a_dsn(preheat: Any, dsn: str) -> None:
    told = preheat("serve", "--dsn", dsn)
    assert (told.exit_code, told.stdout) == (2, "")
    assert "leave out --dsn and PREHEAT_DSN" in " ".join(told.stderr.split())

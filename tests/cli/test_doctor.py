"""`preheat doctor` as a command: exit codes, JSON, and what a container without a terminal gets."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from tests.support.server import Server


def test_the_exit_code_is_the_worst_line(preheat: Any, dsn: str, backend: str) -> None:
    doctor = ("doctor", "-c", "no_such_collection", "--backend", backend)
    result = preheat(*doctor, "--json")
    assert result.exit_code == 2
    told = json.loads(result.stdout)
    assert told["status"] == "red"
    [red] = [check for check in told["checks"] if check["status"] == "red"]
    assert red["name"] == "collection no_such_collection"
    shown = preheat(*doctor).stdout.splitlines()
    assert sum(line.startswith("red ") for line in shown) == 1
    assert "       -> create it: preheat schema --apply -c no_such_collection" in shown


def test_yellow_is_1_and_green_is_0(preheat: Any, server: Server, database: str) -> None:
    dsn = server.dsn(database)
    result = preheat("doctor", "--dsn", dsn)
    assert result.exit_code == 0
    assert {line.split()[0] for line in result.stdout.splitlines()} == {"green"}
    result = preheat("doctor", "--dsn", f"{dsn}&keepalives=0")
    assert result.exit_code == 1
    assert "          in the DSN: keepalives=1&keepalives_idle=60" in result.stdout


@pytest.mark.slow
def test_a_container_without_a_terminal_gets_plain_lines(server: Server, dsn: str) -> None:
    bad = dsn.replace("s3cret", "wrong")
    command = [sys.executable, "-m", "preheat", "doctor", "--timeout", "5", "--dsn"]
    for given, code in ((bad, 2), ("postgresql://127.0.0.1:1/x", 2), ("nonsense", 2)):
        done = subprocess.run([*command, given], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert "\x1b" not in done.stdout
        assert "Traceback" not in done.stdout + done.stderr
        assert "red " in done.stdout
        assert "wrong" not in done.stdout + done.stderr


def test_mistakes_are_usage_errors(preheat: Any) -> None:
    assert preheat("doctor", "--size", "0").exit_code == 2
    assert preheat("doctor", "--timeout", "0").exit_code == 2

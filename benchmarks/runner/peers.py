"""The peers' environments, made once and used again, and workers in them.

Peers do not agree on one environment: in a common one some would be held at releases of years ago. So there is one
for each of `benchmarks/contestants/peers*.txt`, under `build/peers`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.contestants import Contestant, Environment
from benchmarks.runner.jobs import Job

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / "build" / "peers"
BYTECODE = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(ROOT / "build" / "bytecode")}
"""Variables with which each of hundreds of workers need not compile what it imports."""
TIMEOUT = 180.0
"""Seconds that one worker may take."""


class WorkerError(Exception):
    """A worker has failed; the message is the last line that it said."""


def requirements(environment: Environment) -> Path:
    return Path(__file__).parents[1] / "contestants" / f"{environment}.txt"


def interpreter(environment: Environment) -> Path:
    """The Python that runs this environment's workers; preheat's own is the one that runs this."""
    if environment == "preheat":
        return Path(sys.executable)
    folder = ENVIRONMENTS / environment
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def ensure(environment: Environment) -> None:
    """Make an environment unless it is there, made of the same requirements by the same Python.

    Raises:
        WorkerError: if it cannot be made, as without a network.
    """
    if environment == "preheat":
        return
    folder = ENVIRONMENTS / environment
    stamp = folder / "made-of"
    wanted = f"{sys.version}\n{requirements(environment).read_text(encoding='utf-8')}"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    uv = shutil.which("uv")
    if uv is None:
        raise WorkerError("uv is not on PATH; the peers' environments are made with it")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _run(uv, "venv", "--python", sys.executable, str(folder))
    wants = ("--requirements", str(requirements(environment)))
    _run(uv, "pip", "install", "--python", str(folder), *wants)
    stamp.write_text(wanted, encoding="utf-8")


def _run(*command: str) -> None:
    done = subprocess.run([*command, "--quiet"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkerError(last_line(done.stderr))


def work(contestant: Contestant, job: Job) -> dict[str, Any]:
    """Do a job in a fresh process of the contestant's environment.

    Returns:
        What `benchmarks.runner.worker.work` has returned there.

    Raises:
        WorkerError: if the worker fails or takes too long.
    """
    try:
        done = subprocess.run(
            [str(interpreter(contestant.environment)), "-m", "benchmarks.runner.worker"],
            input=job.to_line() + "\n",
            cwd=ROOT,
            env={**os.environ, **BYTECODE},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise WorkerError(f"took longer than {TIMEOUT:g} s") from None
    if done.returncode:
        raise WorkerError(last_line(done.stderr))
    return parse(done.stdout)


def parse(output: str) -> dict[str, Any]:
    """A worker's results: its last line, whatever a contestant has printed before."""
    results: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return results


def last_line(text: str) -> str:
    """The last line of an error's traceback that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip(" |+-")]
    return lines[-1] if lines else "it has ended without a word"

"""Completion in real shells, with the script that `preheat --show-completion` prints in each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.needed import missing

pytestmark = pytest.mark.slow

SHOW = "preheat --show-completion"
SCRIPTS = {
    "bash": f"""
        source /dev/stdin <<< "$({SHOW})"
        COMP_WORDS=($words) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _preheat_completion preheat
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    # zsh completes on a terminal only: what the script would offer there is printed instead
    "zsh": f"""
        compdef() {{ }}
        _arguments() {{ print -r -- "$@" }}
        line="$words"; words=(${{(s: :)line}}); CURRENT=$#words
        source <({SHOW})
        _preheat_completion
    """,
    "fish": f"""
        {SHOW} | source
        complete -C "$words"
    """,
}


def completed(shell: str, words: str, home: Path) -> str:
    """What a shell offers after the words of a command line."""
    if shutil.which(shell) is None:
        missing(f"there is no {shell}")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "HOME": str(home), "words": words}
    done = subprocess.run([shell, "-c", SCRIPTS[shell]], capture_output=True, text=True, env=environment, check=True)
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", list(SCRIPTS))
def test_names_options_and_values_are_completed(shell: str, tmp_path: Path) -> None:
    names = completed(shell, "preheat se", tmp_path)
    assert "search" in names
    assert "serve" in names
    assert "ingest" not in names
    assert "--hybrid" in completed(shell, "preheat search --hy", tmp_path)
    assert "trio" in completed(shell, "preheat search --backend tr", tmp_path)

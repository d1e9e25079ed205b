"""What tests need from outside: without it they are skipped, except where `TESTS_SKIP_NO_SERVER` is set, as in CI."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test because something is not installed, or fail it where nothing may be skipped."""
    if os.environ.get("TESTS_SKIP_NO_SERVER"):
        pytest.fail(f"{what}, and TESTS_SKIP_NO_SERVER is set")
    pytest.skip(what)

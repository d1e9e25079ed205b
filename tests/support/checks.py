"""What holds for every error and every log line."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from urllib.parse import quote

import pytest
from tests.support.server import PASSWORD


def assert_one_sentence(error: BaseException, *words: str) -> None:
    """One sentence, without secrets, that says each of `words` (alternatives are separated by a bar)."""
    text = str(error)
    assert text.strip(), f"{error!r} says nothing"
    assert "\n" not in text, text
    assert not re.search(r"[.!?]\s+[A-Z]", text), f"more than one sentence: {text}"
    for word in words:
        assert re.search(word, text, re.IGNORECASE), f"{word!r} is not in {text!r}"
    assert_no_secrets(text, repr(error))


def assert_no_secrets(*texts: str, secrets: Sequence[str] = (PASSWORD,)) -> None:
    for text in texts:
        for secret in secrets:
            assert secret not in text, text
            assert quote(secret, safe="") not in text, text


def records(log: pytest.LogCaptureFixture, level: int) -> list[logging.LogRecord]:
    """What the library has logged at a level."""
    return [record for record in log.records if record.name.split(".")[0] == "preheat" and record.levelno == level]

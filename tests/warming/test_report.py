from __future__ import annotations

import dataclasses
import logging

import pytest

from preheat import ConnectionReport, WarmReport, warm
from preheat.testing import FakePool

HOT = ConnectionReport("hot", 4711, 0.25, 0.125)
REFUSED = ConnectionReport("failed", error=OSError("postgresql://u:secret@host/db refused"))
BROKEN = ConnectionReport("failed", 4712, 0.5, error=KeyError("x"))
LATE = ConnectionReport("unfinished")


def test_the_report_as_a_dict_is_all_there_is_without_secrets() -> None:
    report = WarmReport("orders", 4, 1.5, True, (HOT, REFUSED, BROKEN, LATE))

    nothing = {"pid": None, "connect_seconds": None, "probe_seconds": None, "error": None}
    assert report.as_dict() == {
        "pool": "orders",
        "ok": False,
        "requested": 4,
        "hot": 1,
        "seconds": 1.5,
        "timed_out": True,
        "attempts": 1,
        "connections": [
            {"status": "hot", "pid": 4711, "connect_seconds": 0.25, "probe_seconds": 0.125, "error": None},
            {**nothing, "status": "failed", "error": "OSError: postgresql://u:***@host/db refused"},
            {"status": "failed", "pid": 4712, "connect_seconds": 0.5, "probe_seconds": None, "error": "KeyError: 'x'"},
            {**nothing, "status": "unfinished"},
        ],
    }
    assert report.errors == (REFUSED.error, BROKEN.error)


@pytest.mark.parametrize(
    ("connections", "timed_out", "words"),
    [
        ((HOT, HOT), False, "2 of 2 connections hot in 1.500 s"),
        ((HOT, LATE), True, "1 of 2 connections hot in 1.500 s, out of time"),
        (
            (REFUSED, BROKEN, REFUSED),
            False,
            "0 of 3 connections hot in 1.500 s; OSError: postgresql://u:***@host/db refused; KeyError: 'x'",
        ),
        ((HOT, BROKEN, LATE), True, "1 of 3 connections hot in 1.500 s, out of time; KeyError: 'x'"),
    ],
)
def test_the_report_in_words(connections: tuple[ConnectionReport, ...], timed_out: bool, words: str) -> None:
    assert str(WarmReport("orders", len(connections), 1.5, timed_out, connections)) == words


def test_reports_are_frozen_slim_and_equal_whatever_the_error_object() -> None:
    assert ConnectionReport("failed", error=OSError("another")) == REFUSED
    assert HOT != BROKEN
    for record, name in ((HOT, "pid"), (WarmReport("orders", 1, 0.5, False, (HOT,)), "pool")):
        assert not hasattr(record, "__dict__")
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, name, None)


async def test_the_log_line_of_a_warm_up_has_pool_and_report_as_fields(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "preheat")
    report = await warm(FakePool(2))
    [fields] = [vars(record) for record in caplog.records if record.name == "preheat"]
    assert (fields["pool"], fields["report"]) == ("fake", report.as_dict())

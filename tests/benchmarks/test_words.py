from __future__ import annotations

import math

import pytest
from benchmarks.report import words


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0, "0"),
        (0.0123, "0.012"),
        (0.456, "0.46"),
        (3.14159, "3.14"),
        (9.996, "10.0"),
        (47.06, "47.1"),
        (99.96, "100"),
        (1234.5, "1,234"),
        (math.nan, "–"),
    ],
)
def test_three_digits_that_mean_something(value, written):
    assert words.number(value) == written


def test_quartiles_have_the_decimals_of_their_median():
    assert words.number(101.4, like=99) == "101.4"


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (1, "round trips", "1 round trip"),
        (2, "", "2"),
        (6, "round trips", "6 round trips"),
        (1.033, "x", "1.03×"),
        (3.2, "us", "3.20 µs"),
    ],
)
def test_quantities(value, unit, written):
    assert words.quantity(value, unit) == written

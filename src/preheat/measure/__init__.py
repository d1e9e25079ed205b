"""Measure where the time of a cold start goes, and check a database for what makes it slow or fail."""

from __future__ import annotations

from .checks import Check, Needs
from .cold_start import measure
from .contestants import CONTESTANTS
from .doctor import Diagnosis, diagnose
from .page import HEADINGS, html_page
from .records import PHASES, Answer, Measurement, Segment, Server

__all__ = (
    "CONTESTANTS",
    "HEADINGS",
    "PHASES",
    "Answer",
    "Check",
    "Diagnosis",
    "Measurement",
    "Needs",
    "Segment",
    "Server",
    "diagnose",
    "html_page",
    "measure",
)

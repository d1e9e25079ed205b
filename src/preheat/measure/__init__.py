"""Measure where the time of a cold start goes."""

from __future__ import annotations

from .cold_start import measure
from .contestants import CONTESTANTS
from .page import HEADINGS, html_page
from .records import PHASES, Answer, Measurement, Segment, Server

__all__ = ("CONTESTANTS", "HEADINGS", "PHASES", "Answer", "Measurement", "Segment", "Server", "html_page", "measure")

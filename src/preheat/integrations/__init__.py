"""Adapters to other libraries, one module for each, which alone imports its library.

- :mod:`preheat.integrations.background`: a storage for code that is not async
- :mod:`preheat.integrations.langchain`, with the extra `langchain`
- :mod:`preheat.integrations.haystack`, with the extra `haystack`
- :mod:`preheat.integrations.llama_index`, with the extra `llama-index`
- :mod:`preheat.integrations.opentelemetry`, with the extra `opentelemetry`
"""

from __future__ import annotations

from .background import Background

__all__ = ("Background",)

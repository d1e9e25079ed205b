"""Adapters to other libraries, one module for each, which alone imports its library.

- :mod:`preheat.integrations.opentelemetry`, with the extra `opentelemetry`
"""

"""Pools of other libraries, as :func:`preheat.warm` needs them. No module here imports the library that it is for."""

"""Pools of other libraries, as they are measured. Each module imports its own library."""

"""A PostgreSQL with pgvector in a folder: nothing to install, nothing to configure.

A user of the folder (`context`) takes locks in it (`locks`). The first user checks the folder (`folder`), clears away
what a crash left (`leftovers`) and starts the supervisor (`server`). The supervisor (`supervisor`) is a process of
its own that runs PostgreSQL and stops it after the last user.
"""

from .context import embedded_postgres

__all__ = ("embedded_postgres",)

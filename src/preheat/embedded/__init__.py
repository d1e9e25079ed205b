"""A PostgreSQL with pgvector in a folder, without installation and configuration.

A user of the folder (`context`) takes locks in it (`locks`). The first user checks the folder (`folder`), ends what a
crash left behind (`leftovers`) and starts the supervisor (`server`). The supervisor (`supervisor`) is a process of its
own. It runs PostgreSQL, and stops it after the last user has left.
"""

from .context import embedded_postgres

__all__ = ("embedded_postgres",)

"""The files that libpq reads besides a DSN: the service file and the password file."""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import ArgumentError
from .words import SOCKET_FOLDERS, WORDS

__all__ = ("read_password", "read_service")

logger: logging.Logger = logging.getLogger("preheat")


def read_service(name: str, file: str, env: Mapping[str, str]) -> dict[str, str]:
    """A section of the service file; libpq looks into the user's own, then into the system's."""
    home = env.get("HOME") or env.get("USERPROFILE") or ""
    files = [Path(file)] if file else [Path(home) / ".pg_service.conf"] if home else []
    if folder := env.get("PGSYSCONFDIR"):
        files.append(Path(folder) / "pg_service.conf")
    for each in files:
        try:
            lines = each.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            if file and each == files[0]:
                raise ArgumentError(
                    f"the service file {each} does not exist; correct servicefile or PGSERVICEFILE"
                ) from None
            continue
        except (OSError, UnicodeDecodeError):
            raise ArgumentError(
                f"the service file {each} cannot be read; let this user read it, as UTF-8 text"
            ) from None
        if (found := _section(lines, name, each)) is not None:
            return found
    looked = " and ".join(map(str, files)) or "no file"
    raise ArgumentError(
        f"the service {name!r} is not defined ({looked}); add [{name}] to a service file, or correct it"
    )


def _section(lines: Sequence[str], name: str, file: Path) -> dict[str, str] | None:
    found: dict[str, str] | None = None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if text.startswith("["):
            if found is not None:
                break
            found = {} if text == f"[{name}]" else None
        elif found is not None:
            key, equals, value = text.partition("=")
            if not equals or key not in WORDS or key in ("service", "servicefile"):
                raise ArgumentError(
                    f"line {number} of the service file {file} is not name=value with a name of libpq's"
                )
            found[key] = value
    return {key: value for key, value in found.items() if value} if found is not None else None


def read_password(passfile: str, host: str, port: int, database: str, user: str) -> str | None:
    """The password of the first line of the password file that fits; None if there is none.

    A file that others may read is not used, as in libpq; a warning says so.

    Args:
        passfile: the file; empty for the user's own.
        host: a name, an address, or the folder of a socket.
    """
    file = Path(passfile) if passfile else _own_password_file()
    if file is None:
        return None
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            return None
        if sys.platform != "win32" and status.st_mode & 0o077:
            logger.warning("the password file %s is open to others and is not used; run: chmod 0600 %s", file, file)
            return None
        lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    wanted = ("localhost" if host in SOCKET_FOLDERS else host, str(port), database, user)
    entries = (_entry(line) for line in lines if not line.startswith("#"))
    return next((entry[4] for entry in entries if len(entry) == 5 and _fits(entry, wanted)), None)


def _own_password_file() -> Path | None:
    if sys.platform == "win32":
        return Path(os.environ["APPDATA"]) / "postgresql" / "pgpass.conf" if "APPDATA" in os.environ else None
    try:
        return Path.home() / ".pgpass"
    except RuntimeError:
        return None


def _entry(line: str) -> list[str]:
    """The fields of a line: a backslash makes the next character an ordinary one."""
    fields = [""]
    characters = iter(line)
    for character in characters:
        if character == "\\":
            fields[-1] += next(characters, "")
        elif character == ":" and len(fields) < 5:
            fields.append("")
        else:
            fields[-1] += character
    return fields


def _fits(entry: Sequence[str], wanted: Sequence[str]) -> bool:
    return all(field in ("*", value) for field, value in zip(entry, wanted, strict=False))

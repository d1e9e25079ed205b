"""A PgBouncer between a test and its server, if one is installed."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from tests.support.needed import missing
from tests.support.server import PASSWORD, Server, free_port

__all__ = ("pgbouncer", "tracks_statements")

PROGRAM = shutil.which("pgbouncer") or ("/usr/sbin/pgbouncer" if Path("/usr/sbin/pgbouncer").exists() else "")

LATER_PROGRAM = os.environ.get("TESTS_PGBOUNCER", PROGRAM)
"""A PgBouncer of a later version, if there is one; `.ci/later-pgbouncer` installs it."""


def tracks_statements() -> bool:
    """Whether there is a PgBouncer that keeps track of prepared statements: 1.21 or later."""
    if not LATER_PROGRAM:
        return False
    told = subprocess.run([LATER_PROGRAM, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"PgBouncer (\d+)\.(\d+)", told)
    return version is not None and (int(version[1]), int(version[2])) >= (1, 21)


@contextmanager
def pgbouncer(
    server: Server, mode: str, *, tls: bool = False, tracking: bool = False, **settings: object
) -> Iterator[str]:
    """Run a PgBouncer and return the DSN of the database `tests` through it.

    Args:
        mode: `session`, `transaction` or `statement`.
        tls: whether clients have to use TLS; the DSN then checks the certificate.
        tracking: whether it keeps track of prepared statements, which takes version 1.21.
        settings: further ones of `pgbouncer.ini`.
    """
    program = LATER_PROGRAM if tracking else PROGRAM
    if not program:
        missing("PgBouncer is not installed; apt-get install pgbouncer")
    if tracking and not tracks_statements():
        pytest.skip("PgBouncer is older than 1.21; name a later one in TESTS_PGBOUNCER")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="preheat-") as name:
        folder = Path(name)
        (folder / "users.txt").write_text(f'"postgres" "{PASSWORD}"\n')
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_type": "plain",
            "auth_file": folder / "users.txt",
            "pool_mode": mode,
            "default_pool_size": 2,
            "logfile": folder / "log",
            **(_encrypted(folder) if tls else {}),
            **({"max_prepared_statements": 100} if tracking else {}),
            **settings,
        }
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port} password='{PASSWORD}'\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )
        command = [program, str(folder / "pgbouncer.ini")]
        options = {}
        if os.geteuid() == 0:  # which it refuses to run as
            nobody = pwd.getpwnam("nobody")
            for path in (folder, *folder.iterdir()):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
            options = {"user": nobody.pw_uid, "group": nobody.pw_gid}
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
        try:
            _wait_for(port, process)
            words = f"sslmode=verify-full&sslrootcert={folder / 'root.crt'}" if tls else "sslmode=disable"
            yield f"postgresql://postgres:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/tests?{words}"
        finally:
            process.kill()
            process.wait()


def _encrypted(folder: Path) -> dict[str, object]:
    """The settings for TLS, with a certificate of its own."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "root.crt"))
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(folder / "own.pem"))
    pair = folder / "own.pem"
    return {"client_tls_sslmode": "require", "client_tls_key_file": pair, "client_tls_cert_file": pair}


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        assert process.poll() is None, "PgBouncer did not start"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise TimeoutError("PgBouncer does not listen")

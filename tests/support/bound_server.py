"""A server of a few words that logs clients in by SCRAM-SHA-256-PLUS, which the embedded PostgreSQL cannot without TLS.

It plays PostgreSQL's side from the standards alone, and answers each simple query with an empty result.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import os
import socket
import ssl
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trustme
from cryptography import x509

ROUNDS = 4096


class BoundServer:
    """Its port, the certificate of its authority, and how it behaves.

    Attributes:
        mechanisms: what it offers.
        knows_password: whether its last message shows the password.
        lets_in: whether it lets clients in without a log-in.
    """

    def __init__(self, folder: Path, password: str) -> None:
        authority = trustme.CA()
        self.root = folder / "root.crt"
        authority.cert_pem.write_to_path(str(self.root))
        issued = authority.issue_cert("localhost", "127.0.0.1")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.set_alpn_protocols(["postgresql"])
        issued.configure_cert(self._context)
        certificate = x509.load_pem_x509_certificate(issued.cert_chain_pems[0].bytes())
        assert certificate.signature_hash_algorithm is not None
        der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
        self._hash = hashlib.new(certificate.signature_hash_algorithm.name, der).digest()
        self._password = password
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.mechanisms = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"]
        self.knows_password = True
        self.lets_in = False
        self._numbers = itertools.count(1)
        self.bound = 0
        """How many clients have logged in with the binding."""

    def serve(self) -> None:
        """Serve one client after the other until the listener is shut."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.settimeout(20)
                threading.Thread(target=self._attend, args=(client,), daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _attend(self, client: socket.socket) -> None:
        with suppress(OSError, EOFError), client:
            if client.recv(1, socket.MSG_PEEK) != b"\x16":
                assert _exactly(client, 8)[4:] == (80877103).to_bytes(4, "big")  # SSLRequest
                client.sendall(b"S")
            with self._context.wrap_socket(client, server_side=True) as within:
                _exactly(within, int.from_bytes(_exactly(within, 4), "big") - 4)  # the start-up
                if not self.lets_in and not self._log_in(within):
                    return
                who = _message(b"K", next(self._numbers).to_bytes(4, "big") + bytes(4))
                within.sendall(_message(b"R", bytes(4)) + _parameter("server_version", "18.0") + who + READY)
                while _receive(within)[0] == b"Q":
                    within.sendall(_message(b"C", b"SELECT 0\0") + READY)

    def _log_in(self, client: ssl.SSLSocket) -> bool:
        client.sendall(_message(b"R", (10).to_bytes(4, "big") + "\0".join(self.mechanisms).encode() + b"\0\0"))
        _, body = _receive(client)
        mechanism, _, rest = body.partition(b"\0")
        first = rest[4:]
        if mechanism != b"SCRAM-SHA-256-PLUS":
            return False
        header, bare = first[: first.index(b",,") + 2], first[first.index(b",,") + 2 :]
        salt, nonce = os.urandom(16), bare.partition(b"r=")[2] + b64encode(os.urandom(18))
        challenge = b"r=" + nonce + b",s=" + b64encode(salt) + b",i=%d" % ROUNDS
        client.sendall(_message(b"R", (11).to_bytes(4, "big") + challenge))
        _, final = _receive(client)
        without_proof, _, proof = final.rpartition(b",p=")
        salted = hashlib.pbkdf2_hmac("sha256", self._password.encode(), salt, ROUNDS)
        key = hmac.digest(salted, b"Client Key", "sha256")
        said = b",".join((bare, challenge, without_proof))
        signature = hmac.digest(hashlib.sha256(key).digest(), said, "sha256")
        expected = bytes(one ^ other for one, other in zip(key, signature, strict=True))
        binding = b"c=" + b64encode(header + self._hash)
        if b64decode(proof) != expected or without_proof.split(b",")[0] != binding:
            client.sendall(_message(b"E", b"SFATAL\0VFATAL\0C28P01\0Mno\0\0"))
            return False
        shown = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), said, "sha256")
        shown = shown if self.knows_password else bytes(32)
        client.sendall(_message(b"R", (12).to_bytes(4, "big") + b"v=" + b64encode(shown)))
        self.bound += 1
        return True


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (4 + len(body)).to_bytes(4, "big") + body


def _parameter(name: str, value: str) -> bytes:
    return _message(b"S", f"{name}\0{value}\0".encode())


READY = _message(b"Z", b"I")


def _exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        if not (piece := client.recv(count - len(data))):
            raise EOFError
        data += piece
    return data


def _receive(client: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(client, 5)
    return head[:1], _exactly(client, int.from_bytes(head[1:], "big") - 4)


@contextmanager
def bound_server(folder: Path, password: str) -> Iterator[BoundServer]:
    server = BoundServer(folder, password)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()

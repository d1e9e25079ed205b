"""SCRAM-SHA-256-PLUS, the log-in that is bound to the server's certificate: RFC 5802, 5929 and 7677.

Somebody in between who decrypts and encrypts again has another certificate than the server, and cannot pass this log-in
on. asyncpg has the log-in without the binding only.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from base64 import b64decode, b64encode

__all__ = ("MECHANISM", "BindingError", "ScramPlus", "certificate_hash", "prepared")

MECHANISM = "SCRAM-SHA-256-PLUS"
HEADER = b"p=tls-server-end-point,,"


class BindingError(ConnectionError):
    """The log-in could not be bound to the server's certificate, or the server does not know the password."""


class ScramPlus:
    """The client's side of one log-in.

    Args:
        certificate: of the server, in DER.
        nonce: a value that is used once.
    """

    def __init__(self, password: str, certificate: bytes, nonce: str = "") -> None:
        self._password = prepared(password).encode()
        self._binding = b64encode(HEADER + certificate_hash(certificate))
        self._nonce = (nonce or secrets.token_urlsafe(24)).encode()
        self._server_signature = b""

    @property
    def _bare(self) -> bytes:
        return b"n=,r=" + self._nonce  # the server takes the name from the start-up

    def first(self) -> bytes:
        """The client's first message."""
        return HEADER + self._bare

    def final(self, challenge: bytes) -> bytes:
        """The client's answer to the server's first message."""
        fields = _fields(challenge)
        nonce, salt, rounds = fields.get(b"r", b""), fields.get(b"s", b""), fields.get(b"i", b"")
        if not nonce.startswith(self._nonce) or nonce == self._nonce or not salt or not rounds.isdigit():
            raise BindingError("the server's challenge is not valid")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, b64decode(salt), int(rounds))
        key = _hmac(salted, b"Client Key")
        without_proof = b"c=" + self._binding + b",r=" + nonce
        said = b",".join((self._bare, challenge, without_proof))
        signature = _hmac(hashlib.sha256(key).digest(), said)
        self._server_signature = _hmac(_hmac(salted, b"Server Key"), said)
        proof = bytes(one ^ other for one, other in zip(key, signature, strict=True))
        return without_proof + b",p=" + b64encode(proof)

    def verify(self, outcome: bytes) -> None:
        """Raise :class:`BindingError` unless the server's last message shows that it knows the password, too."""
        shown = _fields(outcome).get(b"v", b"")
        if not self._server_signature or not hmac.compare_digest(shown, b64encode(self._server_signature)):
            raise BindingError("the server does not know the password, or is another one")


def _fields(message: bytes) -> dict[bytes, bytes]:
    return {part[:1]: part[2:] for part in message.split(b",")}


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


_PROHIBITED = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def prepared(password: str) -> str:
    """A password as SASLprep (RFC 4013) has it; as it is if it cannot be prepared, as in PostgreSQL."""
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(each) else each for each in password if not stringprep.in_table_b1(each)
    )
    text = unicodedata.normalize("NFKC", mapped)
    right_to_left = [stringprep.in_table_d1(each) for each in text]
    mixed = any(right_to_left) and (
        any(map(stringprep.in_table_d2, text)) or not (right_to_left[0] and right_to_left[-1])
    )
    if not text or mixed or any(table(each) for each in text for table in _PROHIBITED):
        return password
    return text


# The binding: a hash of the certificate, by the algorithm that the certificate was signed with

_RSA, _ECDSA, _SHA2 = "1.2.840.113549.1.1.", "1.2.840.10045.4.", "2.16.840.1.101.3.4.2."
_PSS = f"{_RSA}10"
_HASHES = {
    **dict.fromkeys((f"{_RSA}4", f"{_RSA}5", f"{_ECDSA}1"), "sha256"),  # MD5 and SHA-1 are replaced
    **{f"{_RSA}{number}": name for number, name in ((11, "sha256"), (12, "sha384"), (13, "sha512"), (14, "sha224"))},
    **{f"{_ECDSA}3.{number}": f"sha{bits}" for number, bits in ((1, 224), (2, 256), (3, 384), (4, 512))},
    **{f"{_SHA2}{number}": f"sha{bits}" for number, bits in ((1, 256), (2, 384), (3, 512), (4, 224))},
}


def certificate_hash(certificate: bytes) -> bytes:
    """What `tls-server-end-point` is bound to.

    Raises:
        BindingError: if the certificate is signed by an algorithm without a hash of its own, such as Ed25519.
    """
    try:
        outer = _children(_children(certificate)[0])
        algorithm = _children(outer[1])
        name = _object(algorithm[0])
        if name == _PSS:
            parameters = _children(algorithm[1])
            name = _object(_children(_children(parameters[0])[0])[0]) if parameters else f"{_RSA}5"
        kind = _HASHES[name]
    except (IndexError, KeyError):
        raise BindingError("the signature of the server's certificate is of a kind that cannot be bound to") from None
    return hashlib.new(kind, certificate).digest()


def _children(encoded: bytes) -> list[bytes]:
    """The contents of the elements that a piece of DER consists of, one after the other."""
    found, position = [], 0
    while position < len(encoded):
        length, start = encoded[position + 1], position + 2
        if length & 0x80:
            count = length & 0x7F
            length, start = int.from_bytes(encoded[start : start + count], "big"), start + count
        found.append(encoded[start : start + length])
        position = start + length
    return found


def _object(encoded: bytes) -> str:
    """The name of an object identifier, with dots."""
    numbers, value = [encoded[0] // 40 if encoded[0] < 80 else 2], 0
    numbers.append(encoded[0] - 40 * numbers[0])
    for byte in encoded[1:]:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    return ".".join(map(str, numbers))

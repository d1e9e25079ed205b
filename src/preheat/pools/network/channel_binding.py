"""Logs a driver in with channel binding, for `channel_binding=require`. Asyncio-flavored.

asyncpg has no such log-in. So the messages of the log-in are answered here, between the socket and the driver, which
hears of its good end only.
"""

from __future__ import annotations

import asyncio
from typing import Any

from .scram import MECHANISM, BindingError, ScramPlus

__all__ = ("BoundLogIn", "BoundTransport", "LogInProtocol")

OK, SASL, SASL_CONTINUE, SASL_FINAL = 0, 10, 11, 12
"""What the server's messages of type R are about."""


class BoundLogIn:
    """The client's side of one log-in, as a conversation of bytes."""

    def __init__(self, password: str) -> None:
        self.error: BindingError | None = None
        """Why the log-in was broken off."""
        self.is_over: bool = False
        self._password = password
        self._scram: ScramPlus | None = None
        self._is_bound = False
        self._rest = b""

    def hear(self, data: bytes, certificate: bytes | None) -> tuple[bytes, bytes]:
        """What to answer to the server, and what to pass on to the driver.

        Args:
            certificate: of the server, in DER; None without TLS.

        Raises:
            BindingError: if the server lets the client in, or would, without a binding.
        """
        self._rest += data
        answer = passed = b""
        while not self.is_over and len(self._rest) >= 5:
            end = 1 + int.from_bytes(self._rest[1:5], "big")
            if len(self._rest) < end:
                break
            message, self._rest = self._rest[:end], self._rest[end:]
            if message[:1] == b"R":
                reply = self._authenticate(int.from_bytes(message[5:9], "big"), message[9:], certificate)
                answer += reply
            if message[:1] != b"R" or self.is_over:
                passed += message
        if self.is_over:
            passed, self._rest = passed + self._rest, b""
        return answer, passed

    def _authenticate(self, kind: int, body: bytes, certificate: bytes | None) -> bytes:
        if kind == SASL and certificate is not None and MECHANISM.encode() in body.split(b"\0"):
            self._scram = ScramPlus(self._password, certificate)
            first = self._scram.first()
            return _message(MECHANISM.encode() + b"\0" + len(first).to_bytes(4, "big") + first)
        if kind == SASL_CONTINUE and self._scram is not None:
            return _message(self._scram.final(body))
        if kind == SASL_FINAL and self._scram is not None:
            self._scram.verify(body)
            self._is_bound = True
            return b""
        if kind == OK and self._is_bound:
            self.is_over = True
            return b""
        raise BindingError("the server offers no log-in with channel binding (SCRAM-SHA-256-PLUS)")


def _message(body: bytes) -> bytes:
    return b"p" + (4 + len(body)).to_bytes(4, "big") + body


class LogInProtocol(asyncio.Protocol):
    """Stands between a transport and the driver's protocol until the log-in is over."""

    def __init__(self, driver: Any, log_in: BoundLogIn) -> None:
        self._driver = driver
        self._log_in = log_in
        self._transport: Any = None

    def attach(self, transport: Any) -> None:
        """Take the driver's place at a transport that is connected."""
        self._transport = transport
        transport.set_protocol(self)

    def connection_made(self, transport: Any) -> None:
        """The socket is connected."""
        self._transport = transport
        self._driver.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """The server has sent `data`."""
        within = self._transport.get_extra_info("ssl_object")
        certificate = within.getpeercert(binary_form=True) if within is not None else None
        try:
            answer, passed = self._log_in.hear(data, certificate)
        except BindingError as error:
            self._log_in.error = error
            self._transport.abort()
            return
        if answer:
            self._transport.write(answer)
        if self._log_in.is_over:
            self._transport.set_protocol(self._driver)
        if passed:
            self._driver.data_received(passed)

    def eof_received(self) -> bool | None:
        """The server sends no more."""
        closes: bool | None = self._driver.eof_received()
        return closes

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._driver.connection_lost(exc)

    def pause_writing(self) -> None:
        """The server is too slow."""
        self._driver.pause_writing()

    def resume_writing(self) -> None:
        """The server has caught up."""
        self._driver.resume_writing()


class BoundTransport:
    """A transport with TLS whose next protocol is logged in with channel binding."""

    def __init__(self, transport: Any, log_in: BoundLogIn) -> None:
        self._transport = transport
        self._log_in = log_in

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def set_protocol(self, protocol: Any) -> None:
        """As a transport's."""
        if self._log_in.is_over:
            self._transport.set_protocol(protocol)
        else:
            LogInProtocol(protocol, self._log_in).attach(self._transport)

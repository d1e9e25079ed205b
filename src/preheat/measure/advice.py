"""Advice after a measurement, in sentences. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator

from .records import Answer, Server

__all__ = ("advise",)

FAR_SECONDS = 0.005
"""A round trip that takes longer leaves the data center."""
DIRECT_TLS = 170000
"""The first server version that takes TLS from the first byte."""
SLOW_LOOKUP_SECONDS = 0.01
"""More than a caching resolver takes, and more than a busy event loop may add."""


def advise(server: Server, rtt: float | None, answers: tuple[Answer, ...]) -> Iterator[str]:
    """What would make the first answer faster, what matters most first.

    Args:
        rtt: seconds of one round trip; None for a Unix socket.
        answers: cold, after `SELECT 1`, and after the warm-up.
    """
    cold, pinged, warmed = answers
    yield (
        f"The first answer of a cold pool takes {_ms(cold.until_first)}; after SELECT 1 it takes "
        f"{_ms(pinged.until_first)}, and after preheat's warm-up {_ms(warmed.until_first)}."
        + (" Warm the pool before the first user comes: await preheat.warm(pool, probe=...)." if _pays(answers) else "")
    )
    if rtt is not None and rtt >= FAR_SECONDS:
        yield (
            f"A round trip takes {_ms(rtt)}, as to another region. {cold.round_trips_until_first} round trips are "
            f"{_ms(rtt * cold.round_trips_until_first)} of the cold answer. Run the application in the region of the "
            "server."
        )
    yield from _encryption(server, rtt)
    looking, trips = cold.of("type look-ups")
    if trips:
        yield (
            f"The driver looks types up: {_count(trips)}, {_ms(looking)} on each new connection. Pass vectors as text "
            "($1::text::vector) and the driver asks for nothing, as preheat does."
        )
    seconds, _ = cold.of("name resolution")
    if seconds >= SLOW_LOOKUP_SECONDS:
        yield (
            f"The name of the server takes {_ms(seconds)} to look up for each connection. Run a caching resolver on "
            "this machine, or give the address, too (hostaddr=...)."
        )
    released, trips = warmed.of("release")
    if trips:
        yield (
            f"Giving a connection back costs {_count(trips)} ({_ms(released)}) on every use, since the pool ends a "
            "transaction or resets the session. A pool of preheat.open_pool resets only what was changed."
        )
    if server.pooler == "transaction":
        yield (
            "A pooler in transaction mode is in between. It gives each transaction to another session of the server, "
            "so prepared statements do not last, and a warm-up reaches only the sessions that it happens to get. "
            "Connect to the server itself where you can, or warm as many connections as the pooler has "
            "(default_pool_size of PgBouncer)."
        )
    steady = warmed.of("second run")[0] + warmed.of("release")[0]
    if steady > 0:
        yield (
            f"One connection gives about {max(1, round(1 / steady)):,} such answers a second, one after another. The "
            "size of a pool is the answers that you need a second, times "
            f"{_ms(steady)}; all processes together must stay below max_connections, which is {server.max_connections}."
        )


def _pays(answers: tuple[Answer, ...]) -> bool:
    cold, _, warmed = answers
    return cold.until_first > 1.2 * warmed.until_first


def _encryption(server: Server, rtt: float | None) -> Iterator[str]:
    """About the round trip by which a client asks for TLS."""
    saved = "" if rtt is None else f" ({_ms(rtt)})"
    if server.refuses_tls:
        yield (
            f"The server has no TLS, and asking for it costs a round trip{saved} on a new connection. Switch TLS on "
            "(ssl = on), or say sslmode=disable if the network is trusted."
        )
    elif server.is_encrypted and not server.is_direct and server.version_number >= DIRECT_TLS:
        yield (
            f"sslmode=require&sslnegotiation=direct (or sslmode=verify-full) begins TLS with the first byte, and saves "
            f"a round trip{saved} on each new connection. PostgreSQL 17 and later can do it; most poolers cannot."
        )


def _count(trips: int) -> str:
    return "1 round trip" if trips == 1 else f"{trips} round trips"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"

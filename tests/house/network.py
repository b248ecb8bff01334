"""No test reaches beyond this machine: what tries is stopped, and fails its test even where the error is swallowed.

An audit hook sees every socket of this process, whatever thread or library opens it. Child processes and native sockets are
left to `tests.house.offline`.
"""

import ipaddress
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

NAMES = {"", "localhost", "localhost.localdomain", "ip6-localhost", socket.gethostname(), socket.getfqdn()}
attempts: list[str] = []
"""What was stopped."""


class NetworkError(ConnectionError):
    """Something tried to leave this machine."""


def watch() -> None:
    """Stop whatever leaves this machine, from now until the process ends; audit hooks cannot be taken off."""
    sys.addaudithook(_refuse)


def _refuse(event: str, values: tuple[Any, ...]) -> None:
    host = _host(event, values) if event.startswith("socket.") else None
    if host is not None and not is_here(host):
        attempts.append(f"{event} {host}")
        raise NetworkError(f"tests do not leave this machine; {event} asked for {host}.")


def _host(event: str, values: tuple[Any, ...]) -> str | None:
    """Whom a socket event is about; None where nothing is sent.

    Connecting a datagram socket sends nothing: that is how programs ask the system for their own address.
    """
    if event in ("socket.connect", "socket.sendto"):
        one, address = values
        sends = event == "socket.sendto" or one.type & ~(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) == socket.SOCK_STREAM
        return str(address[0]) if sends and isinstance(address, tuple) else None
    if event in ("socket.getaddrinfo", "socket.gethostbyname"):
        name = values[0]
        return name.decode() if isinstance(name, bytes) else name
    return None


def is_here(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host in NAMES
    return address.is_loopback or address.is_unspecified


@pytest.fixture(autouse=True)
def nothing_leaves() -> Iterator[None]:
    """Fail a test that tried to leave this machine."""
    attempts.clear()
    yield
    assert not attempts, f"tried to leave this machine: {attempts}"

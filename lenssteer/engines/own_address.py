"""What only this machine can reach, and which requests come from pages of other sites all the same."""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit


def is_this_machine(host: str) -> bool:
    """Whether an address can be reached from this machine only.

    >>> is_this_machine("localhost"), is_this_machine("::1"), is_this_machine("0.0.0.0"), is_this_machine("")
    (True, True, False, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def foreign(headers: Mapping[bytes, bytes]) -> str:
    """Which header of a request says that it was made for a page of another site; "" where none does.

    A browser on this machine reaches this machine for every page it shows. A name that a stranger's DNS points here is
    such a site too.

    >>> foreign({b"host": b"localhost:8000"}), foreign({b"host": b"evil.example"}), foreign({b"origin": b"null"})
    ('', "Host 'evil.example'", "Origin 'null'")
    """
    for header, scheme in ((b"host", "//"), (b"origin", "")):
        text = headers.get(header, b"").decode("latin-1")
        if text and not is_this_machine(_host(scheme + text)):
            return f"{header.decode().title()} {text[:60]!r}"
    return ""


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""

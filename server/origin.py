"""Which pages may talk to this server, and by which names: what protects a user's own server from the pages that he visits."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from server.config import Settings, loopback
from streaming.wire import ClientError


def check_host(settings: Settings, host: str) -> None:
    """A page may point its own name at 127.0.0.1 and then talk to what is there as to itself (DNS rebinding): where nothing
    else tells who comes, only loopback's own names are answered to.

    Raises:
        ClientError: `forbidden`.
    """
    if settings.hosts is None and (settings.keys or not loopback(settings.host)):
        return
    expected = settings.hosts if settings.hosts is not None else ("localhost", "127.0.0.1", "[::1]")
    name = _hostname(host)
    if settings.hosts is None and loopback(name):
        return
    if "*" not in expected and not {host.lower(), name} & {form for one in expected for form in _forms(one)}:
        raise _forbidden(f"host {host[:100]!r}", expected, "hosts")


def check_origin(settings: Settings, origin: str | None, host: str) -> None:
    """Only browsers say an origin, and a page cannot make them lie about it.

    Raises:
        ClientError: `forbidden`.
    """
    if origin is None:
        return
    if settings.origins is None:
        if host and _netloc(origin) == host.lower():
            return
    elif "*" in settings.origins or origin.lower() in {one.lower().rstrip("/") for one in settings.origins}:
        return
    raise _forbidden(f"a page of {origin[:100]!r}", settings.origins or (host[:100],), "origins")


def _forbidden(got: str, expected: Sequence[str], setting: str) -> ClientError:
    return ClientError("forbidden", f"got {got}, expected {' or '.join(expected)}: the setting `{setting}` allows more")


def _forms(host: str) -> tuple[str, str]:
    return host.lower(), host.lower().strip("[]")


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _hostname(host: str) -> str:
    """Of a Host header: without the port. "" for what is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""

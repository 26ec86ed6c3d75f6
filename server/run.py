"""From settings to a server that listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.app import create
from server.buffers import Protocol
from server.config import Settings
from server.drain import DrainingServer
from server.log import configure
from server.websocket import listen

REQUEST_S = 15.0  # within which a connection must have asked for something


class Impatient(H11Protocol):
    """uvicorn's, but whoever connects and does not get to the end of a request's headers is gone after a while.

    The timer holds the connection, so it goes as soon as it is not needed.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._late = self.loop.call_later(REQUEST_S, self._cut, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._late.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._late.cancel()
        super().handle_websocket_upgrade(event)

    def _cut(self, transport: asyncio.Transport) -> None:
        if self.cycle is None:  # nothing was ever asked
            transport.abort()


def prepare(settings: Settings, said: Callable[[str], Any]) -> Callable[[], None]:
    """The server, bound to its address; what is returned runs it until it is told to stop.

    Raises:
        ValueError, OSError: a setting that does not work, an address that is taken, a certificate that is none.
    """
    configure(settings.log_format, settings.log_level)
    application = create(settings)
    config = uvicorn.Config(application, **options(settings))
    try:
        config.load()
    except OSError as error:  # of which ssl.SSLError is one
        pair = f"tls_cert {settings.tls_cert} and tls_key {settings.tls_key}"
        raise ValueError(f"got {pair}, which do not load: {error}") from None
    listener = listen(settings.host, settings.port)
    scheme = "https" if settings.tls_cert else "http"
    said(f"Rivulet on {scheme}://{settings.host}:{listener.getsockname()[1]}")
    server = DrainingServer(config, application.state.house.drain)
    return lambda: server.run(sockets=[listener])


def options(settings: Settings) -> dict[str, Any]:
    """uvicorn's."""
    return {
        "http": Impatient,
        "ws": Protocol,
        "ws_per_message_deflate": False,
        "ws_max_size": 1 << 21,
        "ws_ping_timeout": 60,  # a pong waits behind the audio that is not read yet, as with files on a slow machine
        "timeout_graceful_shutdown": 5,
        "log_config": None,
        "log_level": settings.log_level,
        "access_log": False,
        "server_header": False,
        "forwarded_allow_ips": list(settings.trusted_proxies),
        "ssl_certfile": settings.tls_cert,
        "ssl_keyfile": settings.tls_key,
    }

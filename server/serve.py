"""One connection: who it is, what it asks for, its session, and how it ends."""

from __future__ import annotations

import asyncio

import structlog

from server.auth import ANONYMOUS, Identity
from server.config import Settings
from server.house import House, entered
from server.session import Session
from server.transport import Gone, Transport, receive
from streaming import wire
from streaming.wire import ClientError

log = structlog.get_logger(__name__)
FAREWELL_S = 1.0  # that the last error may take


async def serve(transport: Transport, house: House, identity: Identity = ANONYMOUS) -> int:
    """One session, to its end. Returns the code to close with."""
    metrics, first, session = house.metrics, None, None
    try:
        house.drain.check()
        first = await _first(transport, house.settings)
        async with entered(first, house, identity) as place:
            session = Session(transport, place, house)
            metrics.resumes.labels("resumed").inc(place.resumed)
            with house.drain.session(session.send), session.known(), session.logged():
                await session.run()
        return metrics.closed("done", 1000)
    except Gone:
        return metrics.closed("gone", 1001)
    except ClientError as error:
        if session is None:
            log.info("refused", code=error.code, reason=error.message, identity=identity.name)
            metrics.refusals.labels(error.code).inc()
            metrics.resumes.labels(error.code).inc(isinstance(first, wire.Resume))
        await _tell(transport, error, house.settings)
        return metrics.closed(error.code, wire.CLOSE_CODES[error.code])
    except Exception:
        ours = ClientError("internal", "the server failed; nothing is wrong with what was sent")
        await _tell(transport, ours, house.settings)
        metrics.closed("internal", wire.CLOSE_CODES["internal"])
        raise


async def _first(transport: Transport, settings: Settings) -> wire.Start | wire.Resume:
    message = await receive(transport, settings.idle_timeout_s)
    if isinstance(message, bytes):
        raise ClientError("order", f"got {len(message)} bytes of audio before start")
    first = wire.decode(message)
    if not isinstance(first, wire.Start | wire.Resume):
        raise ClientError("order", f"got {type(first).__name__.lower()} before start")
    return first


async def _tell(transport: Transport, error: ClientError, settings: Settings) -> None:
    """The error, if the peer still reads."""
    try:
        async with asyncio.timeout(min(settings.send_timeout_s, FAREWELL_S)):
            await transport.send(wire.encode(wire.complaint(error)))
    except (TimeoutError, Gone):
        pass

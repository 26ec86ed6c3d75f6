"""Work that answers a request and then goes on by itself: what goes wrong before the answer is the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from server.webrtc.peers import Guest
from streaming.wire import ClientError

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Answered:
    """What a peer is told."""

    guest: Guest
    sdp: str
    tracks: list[dict[str, str]]


async def carried(work: Coroutine[Any, Any, None], answered: asyncio.Future[Answered]) -> None:
    """Does the work; `answered` is done in any case: by the work, or by its failure."""

    def fail(error: ClientError) -> None:
        if not answered.done():
            answered.set_exception(error)
            answered.exception()  # whoever asked may be gone

    try:
        await work
    except ClientError as error:
        fail(error)
    except asyncio.CancelledError:
        fail(ClientError("draining", "this server is going away"))
        raise
    except Exception:
        log.exception("a peer's task failed")
        fail(ClientError("internal", "the server failed; nothing is wrong with what was sent"))

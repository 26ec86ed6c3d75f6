"""A file through a server: `rivulet separate FILE --server URL`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np
import rivulet_client

from server.files import Source
from streaming.framing import Array


async def separate(
    source: Source, server: str, model: str, names: Sequence[str] | None = None, latency_ms: float | None = None
) -> AsyncIterator[dict[str, Array]]:
    """As `offline.separate`, by a server at `ws://host:port`.

    Raises:
        ValueError: what the server refused, in its words.
        OSError: no server there, or a connection that was lost.
    """
    try:
        async for event in rivulet_client.separate(
            server,
            source.chunks(),
            model=model,
            rate=source.rate,
            channels=source.channels,
            format="f32le",
            stems=names,
            latency_ms=latency_ms,
            live=False,
        ):
            yield {name: np.asarray(pcm, np.float32) for name, pcm in event.stems.items()}
    except rivulet_client.ConnectionLost as error:
        raise OSError(str(error)) from error
    except rivulet_client.RivuletError as error:
        raise ValueError(str(error)) from error

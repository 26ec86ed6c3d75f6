"""The `gst-demucs` protocol, so that GStreamer's own `demucs` element works with this server by changing its URL.

The element (gst-plugins-rs 0.15, `audio/demucs/src/demucs/imp.rs`) says all it wants in the query: `rate` (Hz),
`chunk-duration` (ms), `overlap` and `model-name`. Then it is PCM both ways: float32 little-endian, interleaved stereo; out
come the sources one after another in each message. An empty message ends the input, and later the output.

This is a translation of `stems.v1` and nothing more: the session, its promise and its limits are the same. The element's
chunk and overlap are checked as its reference service does, and otherwise not followed: a latency chosen for this machine
is lower than theirs, and the element takes whatever `latency` it is told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from server.websocket import WebSocketTransport
from streaming import binary, wire

PROTOCOL = "gst-demucs"
LARGEST = 1 << 19  # bytes of a message to the element


class GstDemucsTransport(WebSocketTransport):
    """Says `start` from the query, and tells the session's messages in the element's words."""

    _started = False

    async def receive(self) -> str | bytes | None:
        """`start` first; text of the element is ignored, as its reference service does; empty PCM is the end."""
        if not self._started:
            self._started = True
            return wire.encode(_start(self._websocket.query_params.get))
        while isinstance(message := await super().receive(), str):
            pass
        return wire.encode(wire.End()) if message == b"" else message

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            for part in _split(message):
                await super().send(part)
            return
        body = json.loads(message)
        if body["type"] == "ready":
            told = {"model_name": body["model"], "sources": body["stems"], "latency": round(body["latency_ms"] + 0.5)}
            await super().send(json.dumps({"model_info": told}))
        elif body["type"] == "error" and body["fatal"]:
            await super().send(json.dumps({"error": body["message"]}))
        elif body["type"] == "done":
            await super().send(b"")


def _start(query: Callable[[str], str | None]) -> wire.Start:
    """The query as a `start`.

    Raises:
        ClientError: `bad_message`, for what the reference service refuses too.
    """
    rate = _number(
        "rate", query("rate"), int, "a whole number from 32000 to 48000", lambda value: 32_000 <= value <= 48_000
    )
    _number("chunk-duration", query("chunk-duration"), int, "a whole number of ms from 100", lambda value: value >= 100)
    _number("overlap", query("overlap"), float, "a number from 0 to below 1", lambda value: 0 <= value < 1)
    model = query("model-name")
    if not model:
        raise wire.ClientError("bad_message", "got no model-name in the query")
    return wire.Start(model, rate, channels=2, format="f32le")


def _number(name: str, text: str | None, kind: Callable[[str], Any], expected: str, fits: Callable[[Any], bool]) -> Any:
    try:
        value = kind(text or "")
    except ValueError:
        value = None
    if value is None or not fits(value):
        raise wire.ClientError("bad_message", f"got {name} {text!r} in the query, expected {expected}")
    return value


def _split(message: bytes) -> Iterator[bytes]:
    """A `stems.v1` message as the element wants it: no header, stereo, and in parts of at most `LARGEST` bytes."""
    _, pcm = binary.unpack(message)
    stems, frames, channels = pcm.shape
    pcm = np.repeat(pcm, 2, axis=2) if channels == 1 else pcm
    step = max(1, LARGEST // (4 * stems * 2))
    for at in range(0, frames, step):
        yield pcm[:, at : at + step].tobytes()

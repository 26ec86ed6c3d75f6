"""What is fuzzed: each target takes any bytes and raises only when a codec breaks its word. No atheris in here.

The first byte of an input picks the target, the rest is the target's: so a crash that a fuzzer found is one file, and is
replayed by `check` without it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import urlencode

import numpy as np
from rivulet_client import codec
from rivulet_client.errors import ProtocolError
from starlette.websockets import WebSocket

from server.gstreamer import GstDemucsTransport
from server.hexjson import HexTransport
from server.websocket import WebSocketTransport
from streaming import binary, wire
from streaming.fields import FORMATS
from streaming.join import Chunk


def client_text(data: bytes) -> None:
    """The server reads a client's text: a message that reads back as itself, or `bad_message`."""
    try:
        message = wire.decode(data.decode(errors="replace"))
    except wire.ClientError as error:
        assert error.code == "bad_message", error.code
        wire.encode(wire.complaint(error)).encode()
        return
    assert wire.decode(wire.encode(message)) == message


def client_pcm(data: bytes) -> None:
    """The server reads PCM: finite samples, as many as the bytes hold, or `bad_audio`; and the way back is the same bytes."""
    if not data:
        return
    channels, format = 1 + (data[0] & 1), "f32le" if data[0] & 2 else "s16le"
    try:
        raw = binary.pcm(data[1:], format, channels)
    except wire.ClientError as error:
        assert error.code in ("bad_audio", "too_large"), error.code
        return
    samples, error = binary.finite(raw, 0)
    assert samples.shape == (channels, (len(data) - 1) // channels // FORMATS[format].itemsize)
    assert np.isfinite(samples).all()
    assert samples.size == 0 or np.abs(samples).max() <= binary.LOUDEST
    assert error is None or (error.code, error.fatal, format) == ("not_finite", False, "f32le")
    packed = binary.pack(Chunk(7, samples[None]), format)
    start, stems = codec.unpack(packed)
    assert start == 7
    np.testing.assert_array_equal(stems[0], samples)
    assert error is not None or packed[binary.HEADER.size :] == data[1:]


def server_binary(data: bytes) -> None:
    """The client reads stems: `[S, C, T]` of the shape that the header says, or a `ProtocolError`."""
    try:
        head = codec.header(data)
    except ProtocolError:
        return
    with np.errstate(invalid="ignore"):  # a signalling NaN, which no server sends
        start, stems = codec.unpack(data)
    assert start == head.start
    assert stems.shape == (head.stems, head.channels, head.frames)
    assert stems.nbytes <= 2 * len(data)


def server_text(data: bytes) -> None:
    """The client reads a server's text: a message, None, or a `ProtocolError`."""
    try:
        message = codec.decode(data.decode(errors="replace"))
    except ProtocolError:
        return
    assert message is None or type(message).__name__.lower() == json.loads(data.decode(errors="replace"))["type"]


def _first(kind: type[WebSocketTransport], query: bytes) -> str | bytes | None:
    """What a transport makes of a query. Nothing in that waits, so it needs no event loop."""
    scope = {"type": "websocket", "query_string": query, "headers": [], "path": "/"}

    async def silence(*_: Any) -> Any:
        raise AssertionError("the socket was read, or written to, before start")

    reading: Coroutine[Any, Any, str | bytes | None] = kind(WebSocket(scope, silence, silence)).receive()
    try:
        reading.send(None)
    except StopIteration as done:
        result: str | bytes | None = done.value
        return result
    raise AssertionError("it waited")


def _query(kind: type[WebSocketTransport], data: bytes) -> None:
    """A query becomes a `start` that the session reads, or `bad_message`; in no case another message."""
    try:
        text = _first(kind, data)
        assert isinstance(text, str)
        message = wire.decode(text)
    except wire.ClientError as error:
        assert error.code == "bad_message", error.code
        return
    assert isinstance(message, wire.Start)


def gstreamer_query(data: bytes) -> None:
    _query(GstDemucsTransport, data)


def hex_query(data: bytes) -> None:
    _query(HexTransport, data)


TARGETS: tuple[Callable[[bytes], None], ...] = (
    client_text,
    client_pcm,
    server_binary,
    server_text,
    gstreamer_query,
    hex_query,
)


def check(data: bytes) -> None:
    """Runs the target that the first byte picks on the rest; a warning is a failure too."""
    if data:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            TARGETS[data[0] % len(TARGETS)](data[1:])


def seed(target: Callable[[bytes], None], data: bytes) -> bytes:
    """An input of `check` that runs this target."""
    return bytes([TARGETS.index(target)]) + data


def seeds(golden: dict[str, Any]) -> list[bytes]:
    """Inputs that are right, from the golden vectors: where a fuzzer begins."""
    found = [seed(client_text, json.dumps(vector).encode()) for vector in golden["client"]]
    found += [seed(server_text, json.dumps(vector).encode()) for vector in golden["server"]]
    for vector in golden["binary"]:
        data = bytes.fromhex(vector["hex"])
        layout = data[3] - 1 | (2 if vector["format"] == "f32le" else 0)
        found += [seed(server_binary, data), seed(client_pcm, bytes([layout]) + data[binary.HEADER.size :])]
    query = {"rate": 44_100, "chunk-duration": 3000, "overlap": 0.25, "model-name": "htdemucs"}
    found.append(seed(gstreamer_query, urlencode(query).encode()))
    found.append(seed(hex_query, urlencode({"model": "speech", "rate": 16_000, "channels": 1}).encode()))
    resume = {"type": "resume", "token": "eyJhIjoxfQ.bWFj", "received": 4410}
    return [*found, seed(client_text, json.dumps(resume).encode())]

"""A client that knows what must come back: it keeps what it sent, and holds every answer against docs/protocol.md."""

from __future__ import annotations

import json
import struct
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import numpy as np
import pytest
import serving
import websockets
from websockets.sync.client import ClientConnection, connect

from streaming import wire
from streaming.framing import Array

PATIENCE = 30.0  # s; nothing here takes so long
RATE = 16_000
SHARES = (0.25, 0.75)  # of the input in each stem of `toy-split` and `toy-delay`


@dataclass
class Session:
    """One timeline, over however many connections.

    Attributes:
        audio: all that was sent, `[T]`, as the server should have understood it.
        told: samples whose stems have come.
        marks: id and place of those that have not come back.
        gains: all that were said; None where there is no mix.
        spoilt: messages with values that are no numbers, of which the server has not complained yet.
    """

    model: str
    format: str
    gains: dict[str, float] | None
    audio: Array = field(default_factory=lambda: np.zeros(0, np.float32))
    told: int = 0
    marks: list[tuple[str, int]] = field(default_factory=list)
    spoilt: int = 0
    ended: bool = False
    id: str = ""
    tokens: list[str] = field(default_factory=list)
    kept: int = 0

    def hear(self, message: dict[str, Any]) -> None:
        """A text of the server, as it should be by now."""
        match message["type"]:
            case "mark":
                assert (message["id"], message["sample"]) == self.marks.pop(0)
                assert message["sample"] <= self.told
            case "stats":
                assert self.told <= message["told"] <= message["heard"] <= len(self.audio)
                self.tokens.append(message["resume"])
            case "error" if not message["fatal"]:
                assert message["code"] == "not_finite"
                self.spoilt -= 1
                assert self.spoilt >= 0
            case "done":
                assert self.ended
                assert message["samples"] == self.told == len(self.audio)
                assert not self.marks
            case kind:
                raise AssertionError(f"got {kind} in mid-stream: {message}")

    def accept(self, data: bytes) -> None:
        """Stems: they go on where the last ones ended, are nothing that was not sent, and right."""
        start, stems = serving.unpack(data)
        assert start == self.told
        frames = stems.shape[2]
        assert 0 < frames <= len(self.audio) - start
        expected = self.audio[start : start + frames]
        within = 1e-6 if self.format == "f32le" else 1e-4
        if self.gains is None:
            np.testing.assert_allclose(stems[:, 0], np.outer(SHARES, expected), atol=within)
        elif not self.gains:
            np.testing.assert_allclose(stems[0, 0], expected, atol=within)
        self.told += frames


class Line:
    """A connection, and the session that it carries."""

    def __init__(self, host: str) -> None:
        address = f"ws://{host}/v1/stream"
        self._open = ExitStack()
        opening = connect(address, compression=None, max_size=None, max_queue=None, ping_interval=None)
        self.socket: ClientConnection = self._open.enter_context(opening)

    def say(self, **body: Any) -> None:
        self.send(json.dumps(body))

    def send(self, message: str | bytes) -> None:
        """What is sent to a connection that was closed a moment ago is lost; the answer tells why."""
        try:
            self.socket.send(message)
        except websockets.ConnectionClosed:
            pass

    def begin(self, session: Session) -> dict[str, Any]:
        """The answer to `start` or `resume`, which is `ready`."""
        ready: dict[str, Any] = json.loads(self.socket.recv(PATIENCE))
        assert ready["type"] == "ready", ready
        assert ready["latency_samples"] >= 0
        assert session.id in ("", ready["session"])
        session.id, session.kept = ready["session"], ready["resume_samples"]
        session.tokens.append(ready["resume"])
        return ready

    def poll(self, session: Session) -> None:
        """Whatever has come by now."""
        try:
            while True:
                self._take(session, self.socket.recv(0.002))
        except TimeoutError:
            pass

    def finish(self, session: Session) -> int:
        """All that comes until the close; its code. After a fatal error nothing follows."""
        try:
            while True:
                self._take(session, self.socket.recv(PATIENCE))
        except websockets.ConnectionClosed:
            return self.socket.close_code or 0

    def refused(self, session: Session | None) -> str:
        """The code of the fatal error that ends this connection, which must be closed with the number that belongs to it."""
        try:
            while True:
                message = self.socket.recv(PATIENCE)
                if isinstance(message, str) and json.loads(message).get("fatal"):
                    code = str(json.loads(message)["code"])
                    break
                assert session is not None, f"got {message!r} before a session began"
                self._take(session, message)
            self.socket.recv(PATIENCE)
            raise AssertionError(f"got a message after the fatal error {code}")
        except websockets.ConnectionClosed:
            assert self.socket.close_code == wire.CLOSE_CODES[code]
            return code

    def replaced(self) -> None:
        """Ends because its session goes on elsewhere, whatever comes before."""
        while isinstance(message := self.socket.recv(PATIENCE), bytes) or '"fatal": true' not in message:
            pass
        assert json.loads(message)["code"] == "replaced"
        with pytest.raises(websockets.ConnectionClosed):
            self.socket.recv(PATIENCE)
        assert self.socket.close_code == wire.CLOSE_CODES["replaced"]

    def vanish(self) -> None:
        """Gone without a word: the kernel sends a reset. Does nothing to a connection that is over."""
        with suppress(OSError):
            self.socket.socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close_socket()
        self._open.close()

    def _take(self, session: Session, message: str | bytes) -> None:
        if isinstance(message, bytes):
            session.accept(message)
        else:
            session.hear(json.loads(message))


def pcm(samples: Array, format: str) -> tuple[bytes, Array]:
    """Mono samples as bytes, and what the server reads in them."""
    if format == "f32le":
        return samples.astype("<f4").tobytes(), np.where(np.isfinite(samples), samples, np.float32(0))
    whole = np.rint(samples * 32768).clip(-32768, 32767).astype("<i2")
    return whole.tobytes(), whole.astype(np.float32) / np.float32(32768)

"""WebSocket frames by hand (RFC 6455, section 5): a library would refuse to send what is sent here."""

from __future__ import annotations

import asyncio
import base64
import random
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN = 0x80
UNMASKED_BEYOND = 1 << 16  # bytes; a key of zeros is legal, and spares the work


@dataclass(frozen=True)
class Sent:
    """One thing that is sent: a message in so many pieces, or with `raw` just bytes.

    Attributes:
        opcode: of the first frame; reserved ones too.
        between: bytes between the pieces, such as a ping.
        reserved: the three reserved bits of the first frame, 0x70 at most.
        cut: bytes missing from the end.
    """

    opcode: int
    data: bytes
    pieces: int = 1
    between: bytes = b""
    masked: bool = True
    reserved: int = 0
    cut: int = 0
    raw: bool = False

    def bytes(self, rng: random.Random) -> bytes:
        if self.raw:
            return self.data
        edges = [0, *sorted(rng.randrange(len(self.data) + 1) for _ in range(self.pieces - 1)), len(self.data)]
        parts = []
        for number in range(self.pieces):
            first, last = number == 0, number == self.pieces - 1
            head = (FIN * last) | (self.reserved | self.opcode if first else CONTINUATION)
            piece = self.data[edges[number] : edges[number + 1]]
            parts += [frame(head, piece, rng.randbytes(4) if self.masked else None), b"" if last else self.between]
        whole = b"".join(parts)
        return whole[: len(whole) - self.cut]


def frame(head: int, data: bytes, key: bytes | None) -> bytes:
    """One frame: its first byte, its length, the masking key if any, and the data under it."""
    size, bit = len(data), 0x80 if key else 0
    if size < 126:
        length = struct.pack("!B", bit | size)
    else:
        length = struct.pack("!BH", bit | 126, size) if size < 1 << 16 else struct.pack("!BQ", bit | 127, size)
    if not key:
        return bytes([head]) + length + data
    key = bytes(4) if size > UNMASKED_BEYOND else key
    stretched = np.frombuffer((key * (size // 4 + 1))[:size], np.uint8)
    return bytes([head]) + length + key + (np.frombuffer(data, np.uint8) ^ stretched).tobytes()


def handshake(path: str, rng: random.Random) -> bytes:
    """A right opening."""
    key = base64.b64encode(rng.randbytes(16)).decode()
    lines = [
        f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


async def received(reader: asyncio.StreamReader) -> AsyncIterator[tuple[int, bytes]]:
    """Opcode and data of what a server sends, until it ends; a server does not mask, and ours does not fragment."""
    try:
        while True:
            first, size = await reader.readexactly(2)
            assert first & 0x70 == 0, f"got reserved bits in a frame, {first:#x}"
            if size >= 126:
                size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
            yield first & 0x0F, await reader.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return

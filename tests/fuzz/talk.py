"""One conversation with a server, and whether what it did was right."""

from __future__ import annotations

import asyncio
import json
import random
import struct
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from fuzz import frames
from fuzz.conversations import Conversation

from streaming import binary, wire

LIBRARY = {1000: "normal", 1001: "gone", 1002: "not WebSocket", 1007: "not UTF-8", 1009: "over 2 MiB"}
CODES = {**{code: name for name, code in wire.CLOSE_CODES.items()}, **LIBRARY}
ANSWER = 0.1  # s; what is not right is likely to be answered within, and else the client gives up
PATIENCE = 30.0  # s; beyond it a connection that should have ended is stuck


@dataclass
class Heard:
    """What a server said over one connection."""

    told: int | None = None  # the next sample; None before the first
    codes: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    close: int | None = None
    stems: int = 0
    done: int | None = None

    def binary(self, data: bytes) -> None:
        version, flags, stems, channels, count, start = binary.HEADER.unpack_from(data)
        samples = np.frombuffer(data, "<f4" if flags & 1 else "<i2", offset=binary.HEADER.size)
        assert (version, len(samples)) == (1, stems * channels * count)
        assert np.isfinite(samples).all(), "got stems that are not finite"
        assert self.told in (None, start), f"got stems from {start}, expected {self.told}"
        self.told, self.stems = start + count, self.stems + 1

    def text(self, data: bytes) -> None:
        body = json.loads(data)
        if body["type"] == "error":
            assert body["code"] == "not_finite" or body["code"] in wire.CLOSE_CODES, body
            assert body["fatal"] == (body["code"] != "not_finite"), body
            self.codes += [body["code"]] * body["fatal"]
        elif body["type"] == "done":
            self.done = body["samples"]
        elif body.get("resume"):
            self.tokens.append(body["resume"])


@dataclass(frozen=True)
class Outcome:
    """How a connection ended. `ended`: a close code's name, or what was seen in place of one. `fault`: what was wrong."""

    ended: str
    messages: int
    tokens: tuple[str, ...] = ()
    fault: str = ""


async def talk(port: int, whole: Conversation, rng: random.Random) -> Outcome:
    """Have this conversation, all the while reading, and judge it."""
    heard = Heard()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE):
            ended = await _exchange(reader, writer, whole, rng, heard)
        fault = _judge(whole, heard, ended)
    except TimeoutError:
        ended, fault = "stuck", f"not closed after {PATIENCE:g} s"
    except AssertionError as error:
        ended, fault = "wrong", f"{error}"
    finally:
        writer.transport.abort()
    return Outcome(ended, len(whole.messages) + 1, tuple(heard.tokens[-1:]), fault)


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, whole: Conversation, rng: random.Random, heard: Heard
) -> str:
    writer.write(whole.opening)
    if whole.proper and not (status := await _status(reader)).startswith("HTTP/1.1 101"):
        return status or "closed before an answer"
    reading = asyncio.create_task(_read(reader, whole, heard))
    try:
        await _write(writer, whole, rng)
        if whole.leave == "abort":
            return "aborted by us"
        status = await reading
        return status or CODES.get(heard.close or 0, f"code {heard.close}" if heard.close else "no close frame")
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _status(reader: asyncio.StreamReader) -> str:
    """The first line of the answer to the opening, all of which is read."""
    try:
        return (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0].decode()
    except (asyncio.IncompleteReadError, ConnectionError):
        return ""


async def _write(writer: asyncio.StreamWriter, whole: Conversation, rng: random.Random) -> None:
    with suppress(OSError):
        for sent in whole.messages:
            writer.write(sent.bytes(rng))
            await writer.drain()
        if whole.leave == "close":
            writer.write(frames.Sent(frames.CLOSE, struct.pack("!H", 1000)).bytes(rng))
        if not whole.proper:
            await asyncio.sleep(ANSWER)
        if whole.leave == "eof" or not whole.proper:
            writer.write_eof()


async def _read(reader: asyncio.StreamReader, whole: Conversation, heard: Heard) -> str:
    """Until the end; the HTTP status if there was no WebSocket. A close that comes is taken as the end."""
    if not whole.proper and not (status := await _status(reader)).startswith("HTTP/1.1 101"):
        return status or "closed before an answer"
    async for opcode, data in frames.received(reader):
        if opcode == frames.CLOSE:
            heard.close = int.from_bytes(data[:2], "big") if data else 1005
            return ""
        if opcode == frames.BINARY and whole.native:
            heard.binary(data)
        elif opcode == frames.TEXT and whole.native:
            heard.text(data)
    return ""


def _judge(whole: Conversation, heard: Heard, ended: str) -> str:
    """What was wrong with it, if anything."""
    if heard.close is not None and heard.close not in CODES and not (heard.close == 1005 and not whole.proper):
        return f"got the close code {heard.close}, which is not documented"
    if ended == "internal" or "internal" in heard.codes:
        return "the server failed"
    if ended == "no close frame" and whole.answerable and whole.leave in ("close", "wait"):
        return "the connection ended without a close frame"
    if ended.startswith("HTTP/1.1 5"):
        return f"got {ended}"
    told = {wire.CLOSE_CODES[code] for code in heard.codes}
    if whole.native and told and heard.close is not None and heard.close not in told | {1000, 1002, 1007, 1009}:
        return f"got errors {heard.codes} and the close code {heard.close}"
    return ""

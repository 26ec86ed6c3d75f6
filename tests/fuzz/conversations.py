"""Conversations as a client should have them, and the ways to spoil one."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import numpy as np
from fuzz import frames
from fuzz.frames import BINARY, TEXT, Sent

MODELS = ("toy-split", "toy-delay", "toy-leaky", "toy-ramp", "toy-wide", "toy-long")
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 3, 2**31, 2**53 + 1, 10**400, -(10**4000), 1.5, 1e308, float("nan"), float("inf"),
    "", "a", "low", "no_low", "x" * 201, "x" * 100_000, "\0", "\ud800", "../../etc/passwd", "{}", [], ["low"],
    ["low", "low"], [[]], ["x"] * 33, {}, {"low": 1}, {"low": float("nan")}, {"low": 10**400}, {"low": "1"}, {"": 0},
    {str(number): 1 for number in range(1000)},
)  # fmt: skip


@dataclass(frozen=True)
class Conversation:
    """What is sent, in order, after the opening; and how the client takes its leave: close, abort, wait or eof."""

    opening: bytes
    messages: tuple[Sent, ...]
    leave: str
    proper: bool = True  # the opening and the framing are as they should be

    @property
    def native(self) -> bool:
        """In the words of `stems.v1`."""
        return b"/v1/stream" in self.opening[:40]

    @property
    def answerable(self) -> bool:
        """A close frame must come. Not so after text that is no UTF-8 (`complaints.EXPECTED`), nor after a message over 2 MiB:
        the server closes at once, and TCP resets a connection that has unread bytes."""
        texts = [sent.data for sent in self.messages if sent.opcode == TEXT]
        readable = all(data.decode(errors="ignore").encode() == data for data in texts)
        return self.proper and readable and all(len(sent.data) <= 1 << 21 for sent in self.messages)


def text(**body: Any) -> Sent:
    return Sent(TEXT, json.dumps(body).encode())


def conversation(rng: random.Random, tokens: Sequence[str]) -> Conversation:
    """A right one, over any of the three paths."""
    leave = rng.choices(("close", "abort", "wait", "eof"), (70, 17, 3, 10))[0]
    path = rng.choices(("native", "gst", "hex"), (80, 10, 10))[0]
    if path == "native":
        return Conversation(frames.handshake("/v1/stream", rng), tuple(_native(rng, tokens)), leave)
    query = {"rate": 44_100, "chunk-duration": 3000, "overlap": 0.25, "model-name": rng.choice(MODELS)}
    if path == "hex":
        query = {"model": rng.choice(MODELS), "rate": rng.choice((8000, 16_000)), "channels": rng.choice((1, 2))}
    if rng.random() < 0.3:
        query[rng.choice(list(query))] = str(rng.choice(HOSTILE))[:4000]
    opening = frames.handshake(
        f"/{'gst-demucs' if path == 'gst' else 'separate'}?{urlencode(query, errors='replace')}", rng
    )
    audio = [Sent(BINARY, _pcm(rng, "f32le", 2)) for _ in range(rng.randrange(6))]
    return Conversation(opening, (*audio, Sent(BINARY, b"")), leave)


def _native(rng: random.Random, tokens: Sequence[str]) -> list[Sent]:
    rate, channels = rng.choice((8000, 16_000, 44_100, 48_000, 192_000)), rng.choice((1, 2))
    format = rng.choice(("s16le", "f32le"))
    more: dict[str, Any] = {"live": rng.random() < 0.5}
    if rng.random() < 0.3:
        more |= {"output": "mix", "gains": {"low": 0.5}}
    if rng.random() < 0.2:
        more |= {"stems": ["no_low", "high"], "mono": True, "latency_ms": 5000}
    start = text(type="start", model=rng.choice(MODELS), rate=rate, channels=channels, format=format, **more)
    first = start
    if rng.random() < 0.3:
        first = text(type="resume", token=rng.choice(tokens), received=rng.choice((0, 1, 160, 4000, 2**40)))
    middle = [_middle(rng, format, channels, "output" in more) for _ in range(rng.randrange(12))]
    return [first, *middle, *([text(type="end")] if rng.random() < 0.8 else [])]


def _middle(rng: random.Random, format: str, channels: int, mix: bool) -> Sent:
    kind = rng.random()
    if kind < 0.2:
        return text(type="mark", id=str(rng.randrange(100)))
    if kind < 0.3 and mix:
        return text(type="gains", gains={rng.choice(("low", "high")): rng.uniform(0, 4)})
    return Sent(BINARY, _pcm(rng, format, channels))


def _pcm(rng: random.Random, format: str, channels: int) -> bytes:
    frames_ = rng.choice((0, 1, 159, 160, 161, 1000, 4000))
    numbers = np.random.default_rng(rng.randrange(2**32))
    if format == "s16le":
        return numbers.integers(-32768, 32767, frames_ * channels, np.int16).tobytes()
    pcm = numbers.uniform(-1, 1, frames_ * channels).astype("<f4")
    if len(pcm) and rng.random() < 0.1:
        pcm[rng.randrange(len(pcm))] = rng.choice((np.nan, np.inf, -np.inf, 1e30, 1e-42))
    return pcm.tobytes()


def spoiled(whole: Conversation, rng: random.Random) -> Conversation:
    """One to three things done to it."""
    for _ in range(rng.randint(1, 3)):
        whole = rng.choice(SPOILERS)(whole, rng)
    return whole


def _order(whole: Conversation, rng: random.Random) -> Conversation:
    """Reordered, truncated, doubled, or with one left out."""
    messages = list(whole.messages)
    at = rng.randrange(len(messages) + 1)
    changed = rng.choice(
        (
            messages[at:] + messages[:at],
            messages[:at],
            messages[:at] + messages[at - 1 :],
            messages[:at] + messages[at + 1 :],
        )
    )
    return replace(whole, messages=tuple(changed))


def _with(whole: Conversation, rng: random.Random, sent: Sent, proper: bool = True) -> Conversation:
    at = rng.randrange(len(whole.messages) + 1)
    messages = (*whole.messages[:at], sent, *whole.messages[at:])
    return replace(whole, messages=messages, proper=whole.proper and proper)


def _changed(whole: Conversation, rng: random.Random, change: Callable[[Sent], Sent]) -> Conversation:
    if not whole.messages:
        return whole
    at = rng.randrange(len(whole.messages))
    return replace(whole, messages=(*whole.messages[:at], change(whole.messages[at]), *whole.messages[at + 1 :]))


def _field(whole: Conversation, rng: random.Random) -> Conversation:
    """A field of a text made something else, added, or taken out."""

    def change(sent: Sent) -> Sent:
        if sent.opcode != TEXT or sent.raw:
            return sent
        try:
            body = json.loads(sent.data)
        except (ValueError, RecursionError):
            return sent
        name = (
            rng.choice([*body, "unknown", "gains", "latency_ms", "token", "received"]) if isinstance(body, dict) else ""
        )
        if not name:
            return sent
        body[name] = rng.choice(HOSTILE)
        if rng.random() < 0.2:
            del body[name]
        return replace(sent, data=json.dumps(body).encode("utf-8", "replace"))

    return _changed(whole, rng, change)


def _bits(whole: Conversation, rng: random.Random) -> Conversation:
    """Bytes of a message changed, cut or added."""

    def change(sent: Sent) -> Sent:
        data = bytearray(sent.data)
        for _ in range(rng.randint(1, 4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        return replace(sent, data=bytes(data[: rng.randint(0, len(data))]) + rng.randbytes(rng.choice((0, 0, 1, 3))))

    return _changed(whole, rng, change)


def _texts(whole: Conversation, rng: random.Random) -> Conversation:
    """Text that is no message: deep, huge, invalid UTF-8, a number."""
    deep = rng.choice((10, 1000, 100_000))
    data = rng.choice(
        (
            b"[" * deep,
            b'{"a":' * deep,
            b"\xff\xfe\xfa",
            b"\xed\xa0\x80",
            b"",
            b"null",
            b"1e999",
            b"9" * 5000,
            b'"' + b"x" * 70_000,
        )
    )
    return _with(whole, rng, Sent(TEXT, data))


def _sizes(whole: Conversation, rng: random.Random) -> Conversation:
    """Just over and far over what may be sent at once."""
    size = rng.choice(((1 << 20) + 4, (1 << 20) + 1, (1 << 21) - 4, (1 << 21) + 8))
    return _with(whole, rng, Sent(rng.choice((TEXT, BINARY)), bytes(size)))


def _fragments(whole: Conversation, rng: random.Random) -> Conversation:
    """In pieces, with control frames in between, as is allowed."""
    ping = Sent(rng.choice((frames.PING, frames.PONG)), rng.randbytes(rng.randrange(126))).bytes(rng)
    between = rng.choice((b"", ping))
    return _changed(whole, rng, lambda sent: replace(sent, pieces=rng.randint(1, 9), between=between))


def _frames(whole: Conversation, rng: random.Random) -> Conversation:
    """Frames that are not allowed, or not whole."""
    sent = rng.choice(
        (
            Sent(TEXT, b'{"type":"end"}', masked=False),
            Sent(rng.choice((3, 4, 7, 11, 15)), b"x"),
            Sent(TEXT, b"{}", reserved=rng.choice((0x10, 0x20, 0x40))),
            Sent(frames.PING, bytes(126)),
            Sent(frames.CONTINUATION, b"x"),
            Sent(TEXT, b'{"type":"mark"', pieces=2, between=Sent(TEXT, b"x").bytes(rng)),
            Sent(
                frames.CLOSE,
                rng.choice((b"\x03", b"\0\0", struct.pack("!H", 999), struct.pack("!H", 1005), b"\x03\xe8\xff")),
            ),
            Sent(BINARY, bytes(1000), cut=rng.randint(1, 1000)),
            Sent(BINARY, bytes([0x82, 0xFF]) + b"\xff" * 8 + b"\0" * 4, raw=True),
            Sent(BINARY, rng.randbytes(rng.choice((1, 2, 100, 5000))), raw=True),
        )
    )
    return _with(whole, rng, sent, proper=False)


def _control(whole: Conversation, rng: random.Random) -> Conversation:
    """Control frames in between, as is allowed; a close too, and then goes on."""
    opcode = rng.choices((frames.PING, frames.PONG, frames.CLOSE), (5, 5, 1))[0]
    data = struct.pack("!H", 1000) if opcode == frames.CLOSE else rng.randbytes(rng.randrange(126))
    return _with(whole, rng, Sent(opcode, data), proper=opcode != frames.CLOSE)


def _opening(whole: Conversation, rng: random.Random) -> Conversation:
    """A handshake that is wrong, or half of one."""
    right = whole.opening
    opening = rng.choice(
        (
            right[: rng.randrange(len(right))],
            right.replace(b"Sec-WebSocket-Key: ", b"Sec-WebSocket-Key: !"),
            right.replace(b"Version: 13", b"Version: 12"),
            right.replace(b"Upgrade: websocket\r\n", b""),
            right.replace(b"HTTP/1.1", b"HTTP/9.9"),
            right.replace(b" /", b" /\xff\xfe/"),
            right.replace(b"Host:", b"X: " + b"x" * 100_000 + b"\r\nHost:"),
            rng.randbytes(200),
            b"GET /v1/stream HTTP/1.1\r\n\r\n",
            right + right,
        )
    )
    return replace(whole, opening=opening, proper=False)


SPOILERS = (_order, _field, _field, _field, _bits, _texts, _sizes, _fragments, _frames, _control, _opening)

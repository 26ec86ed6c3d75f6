"""Messages of `stems.v1` to text and bytes, and back. docs/protocol.md is the same in prose; golden vectors hold both.

Binary from the client is bare interleaved PCM. Binary from the server is a 16-byte little-endian header and then, stem by
stem, interleaved PCM in the session's format:

    u8 version (1) | u8 flags (bit 0: f32le, else s16le) | u8 stems | u8 channels | u32 frames | u64 start

Everything else is JSON text with a `type`. What a peer got wrong is a `ClientError`, with a code that stays the same and a
message that names what was got and what was expected.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np

from streaming.framing import Array
from streaming.join import Chunk
from streaming.turns import MOST, Turn

PROTOCOL = "stems.v1"
VERSION = 1
HEADER = struct.Struct("<BBBBIQ")
FLOAT = 1
FORMATS: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
MODES = ("separate", "speakers", "diarize")
RATES = (8_000, 192_000)
LOUDEST = 1024.0  # of f32le, full scale at 1: what is beyond is not sound, as integers sent for floats are not
MAX_MESSAGE = 1 << 20  # bytes; 1.3 s of 192 kHz stereo f32
MAX_TOKEN = 4096  # characters of a resume token
LAST_SAMPLE = 1 << 53  # beyond it JavaScript's numbers skip some

CLOSE_CODES = {
    "bad_message": 4400,  # not JSON, no such type, a field that is missing, unknown or of a wrong value
    "unauthorized": 4401,  # no key or token, or a wrong or expired one
    "forbidden": 4403,  # a page of an origin that is not on the list, or more than the key may have
    "unknown_model": 4404,
    "timeout": 4408,  # idle too long, or reading too slowly
    "order": 4409,  # a message that does not belong here: audio before start, start twice
    "replaced": 4410,  # the session goes on over another connection
    "too_large": 4413,
    "bad_audio": 4422,  # bytes that are not a whole number of frames
    "latency": 4425,  # asked for a latency that this machine cannot keep
    "resume": 4426,  # the resume token is not ours, too old, or does not fit: only a new start helps
    "too_many": 4429,  # more connections or sessions than the limits of the address or key allow: later
    "model_unavailable": 4503,  # the weights are not here and could not be fetched
    "draining": 1012,
    "capacity": 1013,
    "internal": 1011,
}


class ClientError(Exception):
    """The peer's fault, or a limit it ran into; sent to it as `error` and, when fatal, followed by a close."""

    def __init__(self, code: str, message: str, fatal: bool = True, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.fatal, self.retry_after_ms = code, message, fatal, retry_after_ms


@dataclass(frozen=True)
class Start:
    model: str
    rate: int
    channels: int
    format: str
    stems: tuple[str, ...] | None = None
    output: str = "stems"
    gains: Mapping[str, float] = field(default_factory=dict)
    mono: bool = False
    latency_ms: float | None = None
    live: bool = True
    mode: str = "separate"
    speakers: Mapping[str, Any] = field(default_factory=dict)  # of SPEAKERS, those that were given


@dataclass(frozen=True)
class Resume:
    """In place of `start`: go on with a session whose connection was lost. `received`: samples whose stems have come."""

    token: str
    received: int


@dataclass(frozen=True)
class Mark:
    id: str
    sample: int | None = None


@dataclass(frozen=True)
class Gains:
    gains: Mapping[str, float]


@dataclass(frozen=True)
class End:
    pass


@dataclass(frozen=True)
class Ready:
    session: str
    model: str
    stems: tuple[str, ...]
    rate: int
    channels: int
    format: str
    latency_samples: int
    latency_ms: float
    resume: str | None = None
    resume_samples: int = 0
    replay_from: int = 0
    protocol: str = PROTOCOL
    mode: str = "separate"
    diarizer: str | None = None


@dataclass(frozen=True)
class Stats:
    heard: int
    told: int
    lag_ms: float
    compute_p50_ms: float
    compute_p95_ms: float
    queue_p95_ms: float
    resume: str | None = None


@dataclass(frozen=True)
class Speakers:
    """What has changed of who speaks, in samples. `told`: up to where it is known; `active`: the slots of those who speak
    there; `turns`: those that are new or changed; `dropped`: ids of turns that were told and are none."""

    told: int
    active: tuple[int, ...]
    turns: tuple[Turn, ...]
    dropped: tuple[int, ...]


@dataclass(frozen=True)
class Draining:
    deadline_ms: int


@dataclass(frozen=True)
class Error:
    code: str
    message: str
    fatal: bool
    retry_after_ms: int | None = None


@dataclass(frozen=True)
class Done:
    samples: int


FromClient = Start | Resume | Mark | Gains | End
FromServer = Ready | Mark | Stats | Speakers | Draining | Error | Done
_CLIENT: dict[str, type[FromClient]] = {"start": Start, "resume": Resume, "mark": Mark, "gains": Gains, "end": End}


def encode(message: FromClient | FromServer) -> str:
    """A message as JSON text; fields that are None are left out."""
    body = {key: value for key, value in asdict(message).items() if value is not None}
    return json.dumps({"type": type(message).__name__.lower(), **body})


def decode(text: str) -> FromClient:
    """A client's JSON text as a message.

    Raises:
        ClientError: `bad_message`, saying what was got and what was expected.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise _bad(f"got text that is not JSON: {text[:40]!r}") from None
    if not isinstance(body, dict) or not isinstance(body.get("type"), str) or body["type"] not in _CLIENT:
        got = body.get("type") if isinstance(body, dict) else body
        raise _bad(f"got message type {str(got)[:40]!r}, expected one of {', '.join(_CLIENT)}")
    kind = _CLIENT[body.pop("type")]
    known = {item.name for item in fields(kind)} - ({"sample"} if kind is Mark else set())
    if unknown := set(body) - known:
        raise _bad(
            f"got unknown field {min(unknown)!r} in {kind.__name__.lower()}, known are {', '.join(sorted(known))}"
        )
    values = {name: _FIELDS[name](name, value) for name, value in body.items() if value is not None}
    try:
        message = kind(**values)
    except TypeError:
        required = [item.name for item in fields(kind) if item.default is item.default_factory is MISSING]
        missing = [name for name in required if name not in values]
        raise _bad(f"{kind.__name__.lower()} lacks {', '.join(missing)}") from None
    if isinstance(message, Start):
        _agree(message)
    return message


def _agree(start: Start) -> None:
    """Fields that are right one by one and not together."""
    if start.speakers and start.mode == "separate":
        raise _bad("got speakers, but mode is separate: start with mode: speakers or diarize")
    given = {"stems": start.stems is not None, "output: mix": start.output == "mix", "gains": bool(start.gains)}
    if start.mode == "diarize" and any(given.values()):
        what = next(name for name, there in given.items() if there)
        raise _bad(f"got {what}, but mode diarize gives no audio back: leave it out, or use mode: speakers")


def _bad(message: str) -> ClientError:
    return ClientError("bad_message", message)


def _text(name: str, value: Any, most: int = 200) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise _bad(f"got {name} {str(value)[:40]!r}, expected a text of 1 to {most} characters")
    return value


def _one_of(*choices: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise _bad(f"got {name} {str(value)[:40]!r}, expected one of {', '.join(choices)}")
        return value

    return check


def _whole(low: int, high: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _bad(f"got {name} {str(value)[:40]}, expected a whole number from {low} to {high}")
        return value

    return check


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise _bad(f"got {name} {str(value)[:40]}, expected a number")
    return float(value)


def _between(low: float, high: float, unit: str = "") -> Callable[[str, Any], float]:
    def check(name: str, value: Any) -> float:
        if not low <= (number := _number(name, value)) <= high:
            raise _bad(f"got {name} {number:g}{unit}, expected {low:g} to {high:g}{unit}")
        return number

    return check


def _names(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= 32 or len(set(map(str, value))) != len(value):
        raise _bad(f"got {name} {str(value)[:40]}, expected a list of 1 to 32 different names")
    return tuple(_text(name, item) for item in value)


def _gains(name: str, value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise _bad(f"got {name} {str(value)[:40]}, expected an object of stem: gain")
    return {stem: _number(f"gain of {stem[:40]}", gain) for stem, gain in value.items()}


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _bad(f"got {name} {str(value)[:40]}, expected true or false")
    return value


def _speakers(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(f"got {name} {str(value)[:40]}, expected an object of options")
    if unknown := set(value) - set(SPEAKERS):
        raise _bad(f"got unknown option {min(unknown)[:40]!r} in speakers, known are {', '.join(sorted(SPEAKERS))}")
    given = {key: SPEAKERS[key](f"{name}.{key}", one) for key, one in value.items() if one is not None}
    if given.get("onset", 1.0) < given.get("offset", 0.0):
        raise _bad(
            f"got speakers.offset {given['offset']:g} above speakers.onset {given['onset']:g}, expected not above"
        )
    return given


SPEAKERS: dict[str, Callable[[str, Any], Any]] = {
    "max": _whole(1, MOST),
    "diarizer": _text,
    "first": _text,
    "exclude_overlaps": _flag,
    "min_duration_s": _between(0, 10, " s"),
    "gap_threshold_s": _between(0, 10, " s"),
    "buffer_time_s": _between(0, 10, " s"),
    "onset": _between(0.01, 0.99),
    "offset": _between(0.01, 0.99),
}
_FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "model": _text,
    "rate": _whole(*RATES),
    "channels": _whole(1, 2),
    "format": _one_of(*FORMATS),
    "stems": _names,
    "output": _one_of("stems", "mix"),
    "gains": _gains,
    "mono": _flag,
    "latency_ms": _number,
    "live": _flag,
    "mode": _one_of(*MODES),
    "speakers": _speakers,
    "token": partial(_text, most=MAX_TOKEN),
    "received": _whole(0, LAST_SAMPLE),
    "id": _text,
}


def pcm(data: bytes, format: str, channels: int) -> Array:
    """Interleaved bytes as `[C, T]` float32, full scale at 1. May hold NaN or Inf: see `finite`.

    Raises:
        ClientError: `bad_audio` for bytes that are not a whole number of frames, `too_large` for a message over the limit.
    """
    dtype = FORMATS[format]
    frame = channels * dtype.itemsize
    if len(data) > MAX_MESSAGE:
        raise ClientError("too_large", f"got a message of {len(data)} bytes, at most {MAX_MESSAGE} are taken")
    if len(data) % frame:
        raise ClientError("bad_audio", f"got {len(data)} bytes, expected a multiple of {frame} ({channels} x {format})")
    samples = np.frombuffer(data, dtype).reshape(-1, channels).T
    decoded = np.array(samples, np.float32, order="C")
    return decoded * np.float32(1 / 32768) if format == "s16le" else decoded  # a signalling NaN warns when it is scaled


def finite(samples: Array, position: int) -> tuple[Array, ClientError | None]:
    """`[C, T]` with every NaN, Inf and value beyond `LOUDEST` made silence, and the error that says where the first one was.

    Not fatal: one bad sample must not end a meeting. Not passed on: it would stay in a model's state for ever, and so would
    what a model makes of 1e30, which is finite until it is squared.
    """
    bad = ~(np.abs(samples) <= LOUDEST)
    if not bad.any():
        return samples, None
    index, channel = np.argwhere(bad.T)[0]
    got = f"got {samples[channel, index]} at sample {position + index}, channel {channel}"
    message = f"{got} ({int(bad.sum())} such values in this message): silenced"
    return np.where(bad, np.float32(0), samples), ClientError("not_finite", message, fatal=False)


def pack(chunk: Chunk, format: str) -> bytes:
    """A chunk, `[S, C, T]`, as one binary message. s16le rounds to nearest and clips at full scale."""
    stems, channels, frames = chunk.stems.shape
    head = HEADER.pack(VERSION, FLOAT if format == "f32le" else 0, stems, channels, frames, chunk.start)
    samples = chunk.stems.transpose(0, 2, 1)
    if format == "s16le":
        samples = np.clip(np.rint(samples * 32768), -32768, 32767)
    return head + samples.astype(FORMATS[format]).tobytes()

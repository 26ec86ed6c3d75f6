"""Messages of `stems.v1` to text and bytes, and back: the client's half. docs/protocol.md is the law.

PCM goes up bare and interleaved. Stems come down behind a 16-byte little-endian header, stem by stem, interleaved:

    u8 version (1) | u8 flags (bit 0: f32le, else s16le) | u8 stems | u8 channels | u32 frames | u64 start

Everything else is JSON text with a `type`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rivulet_client import turns
from rivulet_client.errors import ProtocolError
from rivulet_client.turns import Mode, SpeakerOptions, Speakers

Array = NDArray[np.float32]
Format = Literal["s16le", "f32le"]

PROTOCOL = "stems.v1"
VERSION = 1
FLOAT = 1  # bit 0 of the flags
FORMATS: dict[str, np.dtype[Any]] = {"s16le": np.dtype("<i2"), "f32le": np.dtype("<f4")}
MAX_MESSAGE = 1 << 20  # bytes; the most that a server takes at once
_HEADER = struct.Struct("<BBBBIQ")


@dataclass(frozen=True)
class Start:
    """The first message: what is wanted. See `connect` for the fields."""

    model: str
    rate: int
    channels: int
    format: Format
    stems: tuple[str, ...] | None = None
    output: Literal["stems", "mix"] | None = None
    gains: Mapping[str, float] | None = None
    mono: bool | None = None
    latency_ms: float | None = None
    live: bool | None = None
    mode: Mode | None = None
    speakers: SpeakerOptions | None = None


@dataclass(frozen=True)
class Resume:
    """In place of `start`: go on with a session whose connection was lost. `received`: samples whose stems have come."""

    token: str
    received: int


@dataclass(frozen=True)
class Ready:
    """What the session will be. `channels`: of each output. `latency_ms`: the promise, the network left out.

    `resume`: a token to go on with after a lost connection; None from a server that cannot. `resume_samples`: how many
    samples before the first that has not come back may have to go up again then. `replay_from`: from which one on they do.
    `diarizer`: what tells who speaks, where that was asked for.
    """

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


@dataclass(frozen=True, eq=False)
class Stems:
    """Separated audio of the samples `[start, start + frames)` of the timeline: name to `[C, T]` float32."""

    start: int
    stems: Mapping[str, Array]
    frames: int


@dataclass(frozen=True)
class Mark:
    """All audio that was sent before this mark has come back; `sample` is its place on the timeline."""

    id: str
    sample: int


@dataclass(frozen=True)
class Stats:
    """About once a second. `heard`, `told` in samples; see docs/protocol.md for the rest."""

    heard: int
    told: int
    lag_ms: float
    compute_p50_ms: float
    compute_p95_ms: float
    queue_p95_ms: float
    resume: str | None = None


@dataclass(frozen=True)
class Draining:
    """The server is going away; the session goes on, and is cut after `deadline_ms`. What comes then is a resumption."""

    deadline_ms: int


@dataclass(frozen=True)
class Error:
    """A complaint; when it is `fatal` the session is over. `retry_after_ms`: when to try again, if that may help."""

    code: str
    message: str
    fatal: bool
    retry_after_ms: int | None = None


@dataclass(frozen=True)
class Done:
    """Everything that was heard is out."""

    samples: int


class Header(NamedTuple):
    """The first 16 bytes of a binary message; `frames` is samples a channel of each stem."""

    format: Format
    stems: int
    channels: int
    frames: int
    start: int


Message = Ready | Mark | Stats | Speakers | Draining | Error | Done
_KINDS: dict[str, type[Message]] = {
    "ready": Ready, "mark": Mark, "stats": Stats, "draining": Draining, "error": Error, "done": Done,
}  # fmt: skip
_TYPES: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float), "bool": bool}


def encode(kind: str, **body: Any) -> str:
    """A message as JSON text; fields that are None are left out, and so take the server's default."""
    return json.dumps({"type": kind, **{name: value for name, value in body.items() if value is not None}})


def encode_start(first: Start | Resume) -> str:
    """The first message: `start`, or `resume` in its place."""
    return encode(type(first).__name__.lower(), **{item.name: getattr(first, item.name) for item in fields(first)})


def decode(text: str) -> Message | None:
    """A server's JSON text; None for a type that this client does not know. Unknown fields are ignored.

    Raises:
        ProtocolError: what is not JSON, or lacks a field, or holds one of a wrong type.
    """
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        raise ProtocolError(f"got text that is not JSON: {text[:80]!r}") from None
    if not isinstance(body, dict) or not isinstance(body.get("type"), str):
        raise ProtocolError(f"got {text[:80]!r}, expected an object with a type")
    kind = _KINDS.get(body["type"])
    if body["type"] == "speakers":
        return turns.read(body)
    if kind is None:
        return None
    known = {item.name: str(item.type) for item in fields(kind)}
    try:
        return kind(**{name: _value(name, known[name], body[name]) for name in known if name in body})
    except TypeError:
        missing = sorted(set(known) - set(body))
        raise ProtocolError(f"{body['type']} lacks {', '.join(missing)}") from None


def _value(name: str, annotation: str, value: Any) -> Any:
    kind, _, none = annotation.partition(" | ")
    if none and value is None:
        return None
    if kind.startswith("tuple"):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif isinstance(value, _TYPES[kind]) and isinstance(value, bool) == (kind == "bool"):
        return value
    raise ProtocolError(f"got {name} {str(value)[:40]!r}, expected {annotation}")


def header(data: bytes) -> Header:
    """The header of a binary message, and that the bytes behind it are as many as it says.

    Raises:
        ProtocolError: a short message, another version, flags that are not known, a length that does not match.
    """
    if len(data) < _HEADER.size:
        raise ProtocolError(f"got a binary message of {len(data)} bytes, expected at least {_HEADER.size}")
    version, flags, stems, channels, frames, start = _HEADER.unpack_from(data)
    if version != VERSION or flags & ~FLOAT:
        raise ProtocolError(f"got version {version} and flags {flags:#x}, expected version {VERSION} and flags 0 or 1")
    format: Format = "f32le" if flags & FLOAT else "s16le"
    expected = _HEADER.size + stems * channels * frames * FORMATS[format].itemsize
    if len(data) != expected:
        shape = f"{stems} stems x {channels} channels x {frames} frames of {format}"
        raise ProtocolError(f"got {len(data)} bytes, expected {expected} ({shape})")
    return Header(format, stems, channels, frames, start)


def unpack(data: bytes) -> tuple[int, Array]:
    """A binary message as `start` and `[S, C, T]` float32, full scale at 1."""
    head = header(data)
    flat = np.frombuffer(data, FORMATS[head.format], offset=_HEADER.size)
    samples = flat.reshape(head.stems, head.frames, head.channels).transpose(0, 2, 1)
    scale = np.float32(1 / 32768) if head.format == "s16le" else np.float32(1)
    return head.start, np.ascontiguousarray(samples, np.float32) * scale


def planar(pcm: NDArray[Any], channels: int) -> Array:
    """PCM of a caller, `[C, T]`, or `[T]` of a mono stream, as `[C, T]` float32, full scale at 1. int16 is scaled.

    Raises:
        ValueError: another shape or type, naming both.
    """
    samples = pcm[np.newaxis] if pcm.ndim == 1 else pcm
    if samples.ndim != 2 or samples.shape[0] != channels:
        raise ValueError(f"got PCM of shape {pcm.shape}, expected ({channels}, samples)")
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / np.float32(32768)
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"got PCM of {pcm.dtype}, expected floating point at full scale 1, or int16")
    return samples.astype(np.float32, copy=False)


def pack(samples: Array, format: Format) -> bytes:
    """`[C, T]` float32 as interleaved bytes. s16le rounds to nearest and clips at full scale.

    NaN and Inf become silence in s16le; f32le leaves them to the server, which silences them and says so.
    """
    frames = samples.T
    if format == "s16le":
        finite = np.where(np.isfinite(frames), frames, np.float32(0))
        frames = np.clip(np.rint(finite * np.float32(32768)), -32768, 32767)
    return frames.astype(FORMATS[format]).tobytes()

"""The bytes of `stems.v1`: interleaved PCM from the client, stems from the server.

Binary from the client is bare. Binary from the server is a 16-byte little-endian header and then, stem by stem, interleaved
PCM in the session's format:

    u8 version (1) | u8 flags (bit 0: f32le, else s16le) | u8 stems | u8 channels | u32 frames | u64 start
"""

from __future__ import annotations

import struct

import numpy as np

from streaming.fields import FORMATS
from streaming.framing import Array
from streaming.join import Chunk
from streaming.wire import ClientError

VERSION = 1
HEADER = struct.Struct("<BBBBIQ")
FLOAT = 1
LOUDEST = 1024.0  # of f32le, full scale at 1: what is beyond is not sound, as integers sent for floats are not
MAX_MESSAGE = 1 << 20  # bytes; 1.3 s of 192 kHz stereo f32


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


def unpack(message: bytes) -> tuple[int, Array]:
    """The start, and the stems as they lie in a message of f32le: `[S, T, C]`, a view of it."""
    _, _, stems, channels, frames, start = HEADER.unpack_from(message)
    return start, np.frombuffer(message, "<f4", offset=HEADER.size).reshape(stems, frames, channels)

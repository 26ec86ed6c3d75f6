"""Opus at 48 kHz (RFC 6716), with what a live session needs: recovery and concealment of lost packets, and exact time.

An encoder hears `LOOKAHEAD` samples beyond what a packet lets be heard. So that sample n of the sound is sample n of what
the listener decodes, `Encoder` is given the sound from `lookahead` on; what lies before primes it (`prime`).
"""

from __future__ import annotations

import ctypes
import weakref
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from server.webrtc import libopus
from server.webrtc.packet import LONGEST, SHORTEST
from streaming.framing import Array

RATE = 48_000
LOOKAHEAD = 312  # samples: 6.5 ms, of the applications audio and voip at 48 kHz
_MOST_BYTES = 1275 * 6  # of a packet of up to 120 ms
_FLOATS = ctypes.POINTER(ctypes.c_float)


@dataclass(frozen=True)
class Coding:
    """How a track is encoded: `frame` in samples (480 or 960), `bitrate` in bit/s, `loss` the percentage of packets that
    in-band FEC prepares for (0: none; it works for voip up to about 50 kbit/s).

    Raises:
        ValueError: a frame of another length.
    """

    application: Literal["audio", "voip"]
    bitrate: int
    frame: int = 960
    loss: int = 0
    complexity: int = 9

    def __post_init__(self) -> None:
        if self.frame not in (480, 960):
            raise ValueError(f"got Opus packets of {self.frame} samples, expected 480 or 960")


MUSIC = Coding("audio", 160_000)  # of a stereo track
SPEECH = Coding("voip", 40_000, loss=10)  # mono


class Decoder:
    """One stream of packets, to `[C, T]` float32 at 48 kHz, in its order and without holes.

    Raises:
        RuntimeError: there is no libopus.
    """

    def __init__(self, channels: int) -> None:
        self._channels, self._library = channels, libopus.load()
        error = ctypes.c_int()
        self._state = self._library.opus_decoder_create(RATE, channels, ctypes.byref(error))
        libopus.checked(error.value)
        weakref.finalize(self, self._library.opus_decoder_destroy, self._state)
        self._pcm = np.zeros((LONGEST, channels), np.float32)

    def decode(self, payload: bytes) -> Array:
        """Raises ValueError for what is not an Opus packet."""
        return self._decode(payload, LONGEST, 0)

    def recover(self, following: bytes, samples: int) -> Array:
        """The `samples` right before the packet `following`, as far as its in-band FEC holds them, the rest concealed."""
        return self._filled(following, samples)

    def conceal(self, samples: int) -> Array:
        """So many samples that nobody sent: what was heard last, going on and fading out."""
        return self._filled(None, samples)

    def _filled(self, following: bytes | None, samples: int) -> Array:
        """libopus invents multiples of 2.5 ms; FEC counts from the end, so an odd rest is cut at the front."""
        whole = -(-samples // SHORTEST) * SHORTEST
        if whole > LONGEST:
            first = self._filled(None, samples - LONGEST)
            return np.concatenate((first, self._filled(following, LONGEST)), axis=1)
        filled = self._decode(following, whole, int(following is not None))
        return filled[:, whole - samples :]

    def _decode(self, payload: bytes | None, room: int, previous: int) -> Array:
        pcm = self._pcm.ctypes.data_as(_FLOATS)
        told = self._library.opus_decode_float(self._state, payload, len(payload or b""), pcm, room, previous)
        return self._pcm[: libopus.checked(told)].T.copy()


class Encoder:
    """One stream of packets out of `[C, frame]` float32 at 48 kHz.

    Raises:
        RuntimeError: there is no libopus.
        ValueError: what libopus refuses of `coding`.
    """

    def __init__(self, channels: int, coding: Coding) -> None:
        self._channels, self.coding, self._library = channels, coding, libopus.load()
        error, application = ctypes.c_int(), libopus.APPLICATIONS[coding.application]
        self._state: Any = self._library.opus_encoder_create(RATE, channels, application, ctypes.byref(error))
        libopus.checked(error.value)
        weakref.finalize(self, self._library.opus_encoder_destroy, self._state)
        self._set(libopus.SET_BITRATE, coding.bitrate)
        self._set(libopus.SET_COMPLEXITY, coding.complexity)
        self._set(libopus.SET_INBAND_FEC, int(coding.loss > 0))
        self._set(libopus.SET_PACKET_LOSS, coding.loss)
        self._packet = ctypes.create_string_buffer(_MOST_BYTES)

    def _set(self, what: int, value: int) -> None:
        libopus.checked(self._library.opus_encoder_ctl(self._state, what, ctypes.c_int32(value)))

    @property
    def lookahead(self) -> int:
        """Samples by which what is decoded trails what was encoded."""
        value = ctypes.c_int32()
        libopus.checked(self._library.opus_encoder_ctl(self._state, libopus.GET_LOOKAHEAD, ctypes.byref(value)))
        return value.value

    def prime(self, pcm: Array) -> None:
        """Start with the `[C, lookahead]` before the first packet's input, and no packet for it."""
        silence = np.zeros((self._channels, self.coding.frame - pcm.shape[1]), np.float32)
        self.encode(np.concatenate((silence, pcm), axis=1))

    def encode(self, pcm: Array) -> bytes:
        """The packet of `[C, frame]`.

        Raises:
            ValueError: another shape.
        """
        if pcm.shape != (self._channels, self.coding.frame):
            raise ValueError(f"got {pcm.shape} to encode, expected {(self._channels, self.coding.frame)}")
        interleaved = np.ascontiguousarray(pcm.T, np.float32)
        size = self._library.opus_encode_float(
            self._state, interleaved.ctypes.data_as(_FLOATS), self.coding.frame, self._packet, _MOST_BYTES
        )
        return ctypes.string_at(self._packet, libopus.checked(size))

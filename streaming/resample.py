"""Stateful polyphase sample-rate conversion, exact on the timeline, and about a millisecond late.

Output sample `m` stands at the input position `m * rate_in / rate_out`, always: no start-up offset, no drift, and
`ceil(N * rate_out / rate_in)` samples for N, however they came. The kernel is a windowed sinc (Kaiser) of `ZEROS` zero
crossings a side at the lower of the two rates (Smith, "Digital Audio Resampling", 2002), so an output waits for
`ZEROS / min(rate)` seconds of input: 1 ms at 16 kHz. Linear-phase FIR resamplers of recording quality wait 20-77 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, gcd

import numpy as np

from streaming.framing import Array

ZEROS = 16
BETA = 9.0
ROLLOFF = 0.95  # of the lower Nyquist frequency: where the kernel is 6 dB down


@dataclass(frozen=True)
class Ratio:
    """Conversion from `source` Hz to `target` Hz, both whole numbers.

    Raises:
        ValueError: a rate that is not a positive integer.
    """

    source: int
    target: int

    def __post_init__(self) -> None:
        if min(self.source, self.target) < 1:
            raise ValueError(f"cannot convert {self.source} Hz to {self.target} Hz")

    @property
    def up(self) -> int:
        return self.target // gcd(self.source, self.target)

    @property
    def down(self) -> int:
        return self.source // gcd(self.source, self.target)

    @property
    def half(self) -> int:
        """Input samples that an output waits for beyond its own position; 0 when there is nothing to convert."""
        return 0 if self.up == self.down else ceil(ZEROS * max(1.0, self.down / self.up))

    def length(self, samples: int) -> int:
        """Output samples for so many input samples."""
        return -(-samples * self.up // self.down)


@dataclass(frozen=True)
class ResampleState:
    """`tail` `[C, N]` is the input from `origin` up to `heard`; `told` outputs are out."""

    tail: Array
    origin: int
    heard: int = 0
    told: int = 0


def start(ratio: Ratio, channels: int, heard: int = 0, told: int = 0) -> ResampleState:
    """Silence lies before the first sample, which is input `heard`; the first output is `told`."""
    tail = np.zeros((channels, ratio.half), np.float32)
    return ResampleState(tail, heard - ratio.half, heard, told if ratio.half else heard)


def push(ratio: Ratio, state: ResampleState, pcm: Array) -> tuple[ResampleState, Array]:
    """Hear `[C, T]`, tell `[C, T']`: every output whose kernel has been heard."""
    heard = state.heard + pcm.shape[1]
    if ratio.half == 0:
        return ResampleState(state.tail, state.origin, heard, heard), pcm
    audio = np.concatenate((state.tail, pcm), axis=1) if pcm.shape[1] else state.tail
    # Output m is heard out when floor(m*down/up) + half < heard.
    until = max(ratio.length(max(heard - ratio.half, 0)), state.told)
    out = _convert(ratio, audio, state.origin, state.told, until)
    origin = min(max(until * ratio.down // ratio.up - ratio.half, state.origin), heard)
    return ResampleState(audio[:, origin - state.origin :].copy(), origin, heard, until), out


def finish(ratio: Ratio, state: ResampleState) -> Array:
    """The outputs that waited, silence after the end: `ratio.length(heard)` in all. `[C, T']`."""
    silence = np.zeros((state.tail.shape[0], ratio.half), np.float32)
    audio = np.concatenate((state.tail, silence), axis=1)
    return _convert(ratio, audio, state.origin, state.told, max(ratio.length(state.heard), state.told))


def _convert(ratio: Ratio, audio: Array, origin: int, begin: int, end: int) -> Array:
    """Outputs `begin .. end - 1` from `audio`, whose first sample is input `origin`."""
    if ratio.half == 0 or end <= begin:
        return np.zeros((audio.shape[0], 0), np.float32)
    kernels = _kernels(ratio)
    position = np.arange(begin, end, dtype=np.int64) * ratio.down
    base = position // ratio.up - ratio.half + 1 - origin
    taps = np.lib.stride_tricks.sliding_window_view(audio, kernels.shape[1], axis=1)[:, base]
    # One dot product an output: its value does not depend on how many are asked for at once.
    return np.asarray(np.einsum("cnk,nk->cn", taps, kernels[position % ratio.up]), np.float32)


@lru_cache(maxsize=16)
def _kernels(ratio: Ratio) -> Array:
    """`[up, 2*half]`: row p weighs the inputs `i-half+1 .. i+half` of an output at position `i + p/up`."""
    scale = min(1.0, ratio.up / ratio.down)
    taps = np.arange(-ratio.half + 1, ratio.half + 1)
    distance = (np.arange(ratio.up)[:, None] / ratio.up - taps) * scale
    window = np.i0(BETA * np.sqrt(np.clip(1 - (distance / ZEROS) ** 2, 0, None))) / np.i0(BETA)
    kernel = np.sinc(distance * ROLLOFF) * window * (np.abs(distance) <= ZEROS)
    # Each phase passes DC exactly; otherwise a constant would come out with a ripple at the output rate.
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True), np.float32)

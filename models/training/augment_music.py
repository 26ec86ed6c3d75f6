"""What a studio does to stems and to their mix, mildly, and so that the stems still add up.

Everything linear that happens to a stem (equaliser, room) or to the whole (the band of a codec) is one product of spectra.
What the mix bus does (compression, soft clipping) is a gain for each sample, found from the mix and applied to every stem:
a sum stays a sum. Each effect has a switch of its own in `Shares`, so that it can be judged alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Audio = NDArray[np.float32]
VOCALS, DRUMS, BASS, OTHER = range(4)  # rows, as `data.STEMS`
BLOCK = 256  # samples; gains that follow a level are known to this precision, and interpolated


@dataclass(frozen=True)
class Shares:
    """How often what happens, 0 to 1: to a stem, or to a whole mixture where that is said.

    Attributes:
        equaliser: a tilt of up to 1.5 dB an octave about 1 kHz and two broad bumps of up to 4 dB.
        reverb: a made room or hall, 0.2 to 1.2 s long, 6 to 20 dB below the stem.
        echo: of vocals: three echoes of 0.08 to 0.4 s, from side to side.
        doubled: of vocals: a second take to the sides, late and out of tune by the delay's slow change.
        saturated: a soft curve with up to 6 dB of drive.
        width: of the stereo image, from mono to half as wide again.
        automation: a level that moves by up to 4 dB over the segment, or in one of six cases stops or starts.
        ducked: of a mixture: bass and other give way to the kick by 3 to 12 dB (side-chain compression).
        forward: of a mixture: drums 3 to 6 dB above everything else together.
        bus: of a mixture: compression of up to 4:1, then soft clipping.
        codec: of a mixture: nothing above 10 to 16 kHz.
    """

    equaliser: float = 0.35
    reverb: float = 0.15
    echo: float = 0.2
    doubled: float = 0.15
    saturated: float = 0.1
    width: float = 0.1
    automation: float = 0.15
    ducked: float = 0.2
    forward: float = 0.12
    bus: float = 0.3
    codec: float = 0.06

    def __post_init__(self) -> None:
        if wrong := [f.name for f in fields(self) if not 0 <= getattr(self, f.name) <= 1]:
            raise ValueError(
                f"got shares {', '.join(f'{name} {getattr(self, name)}' for name in wrong)}, expected 0 to 1"
            )


NOTHING = Shares(**{field.name: 0.0 for field in fields(Shares)})


def factor(decibels: float) -> np.float32:
    return np.float32(10 ** (decibels / 20))


def power(pcm: Audio) -> float:
    return float(np.square(pcm).mean()) + 1e-12


def fast_length(length: int) -> int:
    """The smallest 2^a 3^b 5^c that is not below `length`: a quick size for a transform."""
    sizes = (2**a * 3**b * 5**c for a in range(4, 21) for b in range(4) for c in range(4))
    return min(size for size in sizes if size >= length)


def follow(levels: NDArray[np.float64], fall: float) -> NDArray[np.float64]:
    """Up at once, down by the factor `fall` a block: `out[k] = max(levels[k], fall * out[k-1])`."""
    out, last = np.empty_like(levels), 0.0
    for k, level in enumerate(levels.tolist()):
        last = max(level, fall * last)
        out[k] = last
    return out


def blocks(pcm: Audio) -> NDArray[np.float64]:
    """RMS of each block over both sides, `[2, T] -> [T // BLOCK]`."""
    whole = pcm.shape[-1] // BLOCK * BLOCK
    return np.asarray(np.sqrt(np.square(pcm[:, :whole]).reshape(2, -1, BLOCK).mean((0, 2)) + 1e-12), np.float64)


def curve(gains: NDArray[np.float64], length: int) -> Audio:
    """A gain for each sample out of one a block, `[K] -> [length]`."""
    return np.interp(np.arange(length), (np.arange(len(gains)) + 0.5) * BLOCK, gains).astype(np.float32)


class Augment:
    """Changes stems `[4, 2, T]` of `rate` Hz in place of a studio: `augment(rng, stems) -> stems`, never the given array."""

    def __init__(self, shares: Shares | None = None, rate: int = 44100) -> None:
        self.shares, self.rate = shares or Shares(), rate

    def __call__(self, rng: Generator, stems: Audio) -> Audio:
        out = stems.copy()
        band = self.codec(rng, stems.shape[-1]) if rng.random() < self.shares.codec else None
        for row in range(4):
            if out[row].any():
                out[row] = self.stem(rng, row, out[row], band)
        if rng.random() < self.shares.forward:
            out = self.forward(rng, out)
        if rng.random() < self.shares.ducked:
            out = self.ducked(rng, out)
        if rng.random() < self.shares.bus:
            out = self.bus(rng, out)
        return out

    def stem(self, rng: Generator, row: int, pcm: Audio, band: Audio | None) -> Audio:
        """One stem `[2, T]`, as loud as before but for automation."""
        shares, before = self.shares, power(pcm)
        equal, wet = rng.random() < shares.equaliser, rng.random() < shares.reverb and row != BASS
        if equal or wet or band is not None:
            pcm = self.linear(rng, pcm, equal, wet, band)
        if row == VOCALS and rng.random() < shares.echo:
            pcm = self.echo(rng, pcm)
        if row == VOCALS and rng.random() < shares.doubled:
            pcm = self.doubled(rng, pcm)
        if rng.random() < shares.saturated:
            drive = factor(rng.uniform(-6, 6)) / (1.5 * power(pcm) ** 0.5)
            pcm = np.tanh(pcm * drive)
        if rng.random() < shares.width:
            middle, side = pcm.mean(0), (pcm[0] - pcm[1]) / 2 * np.float32(rng.uniform(0, 1.5))
            pcm = np.stack((middle + side, middle - side))
        pcm = pcm * np.float32((before / power(pcm)) ** 0.5)
        if rng.random() < shares.automation:
            pcm = pcm * self.automation(rng, pcm.shape[-1])
        return np.asarray(pcm, np.float32)

    def linear(self, rng: Generator, pcm: Audio, equal: bool, wet: bool, band: Audio | None) -> Audio:
        """Equaliser, room and band as one product of spectra."""
        length = pcm.shape[-1]
        reach = int(0.4 * self.rate) if wet else self.rate // 100
        size = fast_length(length + reach)
        spectrum = np.fft.rfft(pcm, size)
        if equal:
            spectrum *= self.equaliser(rng, spectrum.shape[-1])
        if band is not None:
            spectrum *= np.interp(np.linspace(0, 1, spectrum.shape[-1]), np.linspace(0, 1, len(band)), band)
        if wet:
            spectrum *= np.fft.rfft(self.room(rng, reach), size)
        return np.asarray(np.fft.irfft(spectrum, size)[:, :length], np.float32)

    def equaliser(self, rng: Generator, bins: int) -> Audio:
        """Gain of each bin, `[bins]`: a tilt and two bumps, found on 200 points of a logarithmic scale."""
        octaves = np.linspace(-5, 4.5, 200)  # about 1 kHz: 31 Hz to 22.6 kHz
        gain = rng.uniform(-1.5, 1.5) * np.clip(octaves, -3, 3)
        for _ in range(2):
            gain = gain + rng.uniform(-4, 4) * np.exp(-0.5 * ((octaves - rng.uniform(-4, 4)) / 0.8) ** 2)
        hertz = np.linspace(0, self.rate / 2, bins)
        return np.interp(hertz, 1000 * 2**octaves, 10 ** (gain / 20)).astype(np.float32)

    def room(self, rng: Generator, length: int) -> Audio:
        """Two responses `[2, length]`: direct sound, a pause, noise that decays by 60 dB in 0.2 to 1.2 s and gets darker."""
        t = np.arange(length, dtype=np.float32) / self.rate
        tail = rng.standard_normal((2, length), dtype=np.float32) * np.exp(-6.9 * t / rng.uniform(0.2, 1.2))
        tail[:, 1:] += rng.uniform(0, 0.9) * tail[:, :-1]
        tail[:, : int(self.rate * rng.uniform(0.002, 0.03))] = 0
        tail *= factor(rng.uniform(-20, -6)) / np.sqrt(np.square(tail).sum(1, keepdims=True) + 1e-12)
        tail[:, 0] = 1
        return np.asarray(tail, np.float32)

    def codec(self, rng: Generator, length: int) -> Audio:
        """Gain of each bin of a transform of this length, `[bins]`: one up to an edge, and down within 500 Hz."""
        edge = rng.uniform(10_000, 16_000)
        hertz = np.linspace(0, self.rate / 2, length // 2 + 1)
        return np.clip(1 - (hertz - edge) / 500, 0, 1).astype(np.float32)

    def echo(self, rng: Generator, pcm: Audio) -> Audio:
        delay, out = int(self.rate * rng.uniform(0.08, 0.4)), pcm.copy()
        gain = factor(rng.uniform(-14, -6))
        for number in range(1, 4):
            late = pcm[:, : max(0, pcm.shape[-1] - number * delay)] * gain**number
            pan = np.array([[1.0], [0.3]] if number % 2 else [[0.3], [1.0]], np.float32)
            out[:, out.shape[-1] - late.shape[-1] :] += late * pan
        return out

    def doubled(self, rng: Generator, pcm: Audio) -> Audio:
        """A copy a side, 12 to 35 ms late, whose delay sways by a millisecond."""
        out, t = pcm.copy(), np.arange(pcm.shape[-1])
        for side in (0, 1):
            sway = 0.001 * np.sin(2 * np.pi * rng.uniform(0.2, 0.7) * t / self.rate + rng.uniform(0, 6))
            late = t - (rng.uniform(0.012, 0.035) + sway) * self.rate
            out[side] += factor(rng.uniform(-10, -3)) * np.interp(late, t, pcm[side], left=0).astype(np.float32)
        return out

    def automation(self, rng: Generator, length: int) -> Audio:
        gains = 10 ** (rng.uniform(-4, 4, 4) / 20)
        if rng.random() < 1 / 6:
            gains = np.array([0, 0, 1, 1, 1, 1.0]) if rng.random() < 0.5 else np.array([1, 1, 1, 1, 0, 0.0])
        return np.interp(np.arange(length), np.linspace(0, length, len(gains)), gains).astype(np.float32)

    def forward(self, rng: Generator, stems: Audio) -> Audio:
        """Drums above all others together."""
        rest = stems.sum(0) - stems[DRUMS]
        if stems[DRUMS].any() and rest.any():
            stems[DRUMS] *= factor(rng.uniform(3, 6)) * np.float32((power(rest) / power(stems[DRUMS])) ** 0.5)
        return stems

    def ducked(self, rng: Generator, stems: Audio) -> Audio:
        """Bass and other, and vocals by a third of it, give way to what is low in the drums."""
        middle = stems[DRUMS].mean(0)
        whole = len(middle) // 128 * 128
        low = np.abs(middle[:whole].reshape(-1, 128).mean(1))  # a mean of 128 samples hears below 340 Hz
        low = low[: len(low) // 2 * 2].reshape(-1, 2).max(1).astype(np.float64)  # a block
        if low.size and low.max() > 1e-5:
            fall = np.exp(-BLOCK / self.rate / rng.uniform(0.06, 0.25))
            depth = rng.uniform(3, 12) * np.minimum(1, 1.5 * follow(low / low.max(), fall))
            for row, share in ((BASS, 1), (OTHER, 1), (VOCALS, 1 / 3)):
                stems[row] *= curve(10 ** (-depth * share / 20), stems.shape[-1])
        return stems

    def bus(self, rng: Generator, stems: Audio) -> Audio:
        """The gains that a compressor and a soft clipper give to the mix, on every stem."""
        mix = stems.sum(0)
        levels = 20 * np.log10(follow(blocks(mix), np.exp(-BLOCK / self.rate / rng.uniform(0.05, 0.3))) + 1e-6)
        above = np.maximum(0, levels - (levels.max() - rng.uniform(4, 14)))
        gain = curve(10 ** (-above * (1 - 1 / rng.uniform(1.5, 4)) / 20), mix.shape[-1])
        if rng.random() < 0.5:
            loud = np.abs(mix * gain) / (np.abs(mix).max() * np.float32(rng.uniform(0.5, 1.2)) + 1e-9)
            gain = gain * np.where(loud > 1e-3, np.tanh(loud) / np.maximum(loud, 1e-3), 1).astype(np.float32)
        return np.asarray(stems * gain, np.float32)

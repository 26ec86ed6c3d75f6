"""Random mixtures out of the banks: a new one every time, from a seeded generator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from models.training.data import BLOCK, STEMS, Clip, SpeechBank, Track, floats

Audio = NDArray[np.float32]


def decibels(value: float) -> float:
    """dB to a factor of amplitude."""
    return float(10 ** (value / 20))


def rms(pcm: Audio) -> float:
    return float(np.sqrt(np.square(pcm).mean() + 1e-12))


def resampled(pcm: Audio, speed: float, length: int) -> Audio:
    """Play `[..., N]` faster by `speed` (pitch and tempo together): cubic (Catmull-Rom) interpolation to `length`."""
    position = np.arange(length, dtype=np.float64) * speed + 1
    whole = np.minimum(position.astype(np.int64), pcm.shape[-1] - 3)
    t = (position - whole).astype(np.float32)
    a, b, c, d = (pcm[..., whole + shift] for shift in (-1, 0, 1, 2))
    return np.asarray(b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a))), np.float32)


def coloured_noise(rng: Generator, length: int) -> Audio:
    """Noise whose spectrum falls by 0 to 6 dB an octave, of unit RMS, `[length]`."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum /= np.maximum(1, np.arange(len(spectrum))) ** rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, n=length).astype(np.float32)
    return np.asarray(noise / rms(noise), np.float32)


def typical_pitch(pcm: Audio, rate: int) -> float:
    """Median pitch in Hz of the clearly voiced frames, by autocorrelation; 150 where there are none."""
    size = rate // 16
    frames = pcm[: len(pcm) // size * size].reshape(-1, size)
    frames = frames[np.square(frames).mean(1) > 0.1 * np.square(frames).mean()]
    power = np.abs(np.fft.rfft(frames * np.hanning(size), n=2 * size)) ** 2
    correlation = np.fft.irfft(power)
    shortest, longest = rate // 350, rate // 70
    lag = correlation[:, shortest:longest].argmax(1) + shortest
    height = correlation[np.arange(len(frames)), lag] / (correlation[:, 0] + 1e-9)
    voiced = rate / lag[height > 0.4]
    return float(np.median(voiced)) if len(voiced) else 150.0


class SpeechMixer:
    """Mixtures of one or two speakers, in places with room and noise.

    80 % have two speakers who overlap by half to all of the segment, 20 % a lone one. Targets keep the room and leave
    out the noise. The lower voice stands first (a lone one first if it is below the middle of all speakers), so that
    training may begin with a fixed order of the outputs, before the best of both orders takes over.
    """

    def __init__(self, bank: SpeechBank, clips: Sequence[Clip], seconds: float, rate: int = 16000) -> None:
        self.bank, self.length, self.rate = bank, int(seconds * rate), rate
        groups: dict[str, list[Clip]] = defaultdict(list)
        for clip in clips:
            groups[clip.group].append(clip)
        if len(groups) < 2:
            raise ValueError(f"got {len(groups)} speakers, expected at least 2")
        self.groups = list(groups.values())
        # A speaker of much material is drawn more often, but less than in proportion.
        weight = np.array([sum(clip.length for clip in group) for group in self.groups]) ** 0.5
        self.weight = weight / weight.sum()
        self.pitch = np.array([self.pitch_of(group) for group in self.groups])

    def pitch_of(self, group: Sequence[Clip]) -> float:
        pcm = self.bank.pcm[group[0].start : group[0].start + min(group[0].length, 6 * self.rate)]
        return typical_pitch(floats(pcm), self.rate)

    def voice(self, rng: Generator, group: int, length: int) -> Audio:
        """`[length]` of one speaker at unit RMS, 12 % slower to 12 % faster, padded with silence."""
        clips = self.groups[group]
        clip = clips[rng.integers(len(clips))]
        speed = rng.uniform(0.88, 1.12)
        wanted = min(clip.length, int(length * speed) + 4)
        start = clip.start + int(rng.integers(clip.length - wanted + 1))
        pcm = floats(self.bank.pcm[start : start + wanted])
        pcm = resampled(pcm, speed, min(length, int((wanted - 4) / speed)))
        pcm = np.pad(pcm, (0, length - len(pcm)))
        return np.asarray(pcm / max(1e-3, rms(pcm)), np.float32)

    def one(self, rng: Generator) -> tuple[Audio, Audio]:
        """One mixture `[T]` and its two speakers `[2, T]`."""
        first, second = rng.choice(len(self.groups), 2, replace=False, p=self.weight)
        sources = np.zeros((2, self.length), np.float32)
        sources[0] = self.voice(rng, first, self.length)
        if rng.random() < 0.8:
            length = self.length if rng.random() < 0.5 else int(self.length * rng.uniform(0.5, 1))
            placed = self.voice(rng, second, length) * decibels(rng.uniform(-5, 5))
            at = 0 if rng.random() < 0.5 else self.length - length
            sources[1, at : at + length] = placed
        if self.bank.rooms and rng.random() < 0.2:
            for row in range(2):
                response = self.bank.rooms[rng.integers(len(self.bank.rooms))]
                sources[row] = fftconvolve(sources[row], response)[: self.length]
        level = decibels(rng.uniform(-35, -17))
        mixture = sources.sum(0)
        if rng.random() < 0.25:
            mixture = mixture + coloured_noise(rng, self.length) * rms(mixture) * decibels(rng.uniform(-35, -12))
        reference = self.pitch[second] if sources[1].any() else np.median(self.pitch)
        order = (0, 1) if self.pitch[first] <= reference else (1, 0)
        return mixture * level, sources[list(order)] * level

    def batch(self, rng: Generator, size: int) -> tuple[Audio, Audio]:
        """Mixtures `[B, 1, T]` and sources `[B, 2, 1, T]`."""
        mixtures, sources = zip(*(self.one(rng) for _ in range(size)), strict=True)
        return np.stack(mixtures)[:, None].astype(np.float32), np.stack(sources)[:, :, None].astype(np.float32)


class MusicMixer:
    """Four stems, either of one song at one place, or each from anywhere.

    The share of one song is `coherent`. Each stem may be absent; gain, side, polarity and speed (with pitch) vary.
    """

    def __init__(self, tracks: Sequence[Track], seconds: float, coherent: float = 0.3, rate: int = 44100) -> None:
        self.length, self.coherent = int(seconds * rate), coherent
        self.by_stem = {stem: [t for t in tracks if t.stem == stem and t.active.any()] for stem in STEMS}
        self.songs: dict[str, dict[str, Track]] = defaultdict(dict)
        for track in tracks:
            if track.kind in ("song", "midi"):
                self.songs[track.song][track.stem] = track
        self.names = [name for name, stems in self.songs.items() if len(stems) > 1]
        missing = [stem for stem, found in self.by_stem.items() if not found]
        if missing:
            raise ValueError(f"got no track of {missing}, expected some of each of {STEMS}")
        # Real recordings weigh as much as everything rendered, and every kind as much as the next.
        self.weights = {stem: self.weigh(found) for stem, found in self.by_stem.items()}

    @staticmethod
    def weigh(found: Sequence[Track]) -> NDArray[np.float64]:
        kinds: dict[str, float] = defaultdict(float)
        for track in found:
            kinds[track.kind] += float(track.active.sum())
        weight = np.array([t.active.sum() / kinds[t.kind] * (2.0 if t.kind == "song" else 1.0) for t in found])
        return np.asarray(weight / weight.sum())

    def cut(self, track: Track, start: int, speed: float) -> Audio:
        """`[2, T]` of a track from sample `start` on, silence beyond its end."""
        wanted = int(self.length * speed) + 8
        pcm = floats(track.pcm[:, start : start + wanted], track.gain)
        pcm = np.pad(pcm, ((0, 0), (0, wanted - pcm.shape[1])))
        return resampled(pcm, speed, self.length) if speed != 1 else pcm[:, : self.length]

    def place(self, rng: Generator, active: NDArray[np.bool_]) -> int:
        """A start such that an active block falls inside the segment."""
        block = int(rng.choice(np.flatnonzero(active)))
        return max(0, block * BLOCK - int(rng.integers(max(1, self.length - BLOCK))))

    def speed(self, rng: Generator) -> float:
        return float(rng.uniform(0.89, 1.12)) if rng.random() < 0.4 else 1.0

    def together(self, rng: Generator) -> Audio:
        """Stems `[4, 2, T]` of one song, with its own levels give or take 3 dB."""
        stems = self.songs[self.names[rng.integers(len(self.names))]]
        known = [track.active for track in stems.values()]
        counts = np.zeros(max(len(active) for active in known), int)
        for active in known:
            counts[: len(active)] += active
        start, speed = self.place(rng, counts >= min(2, counts.max())), self.speed(rng)
        out = np.zeros((4, 2, self.length), np.float32)
        for row, stem in enumerate(STEMS):
            if stem in stems:
                out[row] = self.cut(stems[stem], start, speed) * decibels(rng.uniform(-3, 3))
        return out

    def anything(self, rng: Generator) -> Audio:
        """Stems `[4, 2, T]` from anywhere, each at a level of its own."""
        out = np.zeros((4, 2, self.length), np.float32)
        present = rng.random(4) < 0.85
        present[rng.integers(4)] = True
        for row in np.flatnonzero(present):
            stem = STEMS[row]
            layers = 2 if stem == "other" and rng.random() < 0.3 else 1
            for _ in range(layers):
                track = self.by_stem[stem][rng.choice(len(self.by_stem[stem]), p=self.weights[stem])]
                pcm = self.cut(track, self.place(rng, track.active), self.speed(rng))
                out[row] += pcm / max(1e-3, rms(pcm)) * decibels(rng.normal(0, 4)) * rng.choice((-1, 1))
        return out

    def one(self, rng: Generator) -> Audio:
        stems = self.together(rng) if self.names and rng.random() < self.coherent else self.anything(rng)
        for row in range(4):
            if rng.random() < 0.5:
                stems[row] = stems[row, ::-1]
            stems[row] *= np.array([[decibels(rng.uniform(-2, 2))], [1]], np.float32)
        return stems * np.float32(decibels(rng.uniform(-32, -12)) / max(1e-4, rms(stems.sum(0))))

    def batch(self, rng: Generator, size: int) -> tuple[Audio, Audio]:
        """Mixtures `[B, 2, T]` and stems `[B, 4, 2, T]`."""
        stems = np.stack([self.one(rng) for _ in range(size)])
        return stems.sum(1), stems

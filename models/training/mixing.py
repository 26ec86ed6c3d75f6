"""Random mixtures out of the banks: a new one every time, from a seeded generator."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models.training.augment_music import Augment
from models.training.data import BLOCK, STEMS, Track, floats

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


TWICE = ("song", "chopped")  # of vocals; else half of them would be read, or sung by a vocoder
ENOUGH = 480  # blocks (four minutes) of a kind, from which on more of it does not make it more frequent


@dataclass(frozen=True)
class Mixing:
    """What is mixed with what, and how often: shares are 0 to 1.

    Attributes:
        coherent: share of mixtures whose stems are of one song or rendered piece, at one place; else each is from anywhere.
        songs: how many times as often that is a song as it is a piece of any one rendered kind.
        present: how likely each stem is there, of those from anywhere.
        far: share of stems from anywhere that are not within some 4 dB of the others but up to 18 dB below: songs have such,
            and who has never met them takes what is faint for as loud as the rest.
        choirs: share of vocals from anywhere that are two or three voices at once.
        deep: share of basses from anywhere that are played at half to three quarters of their speed, down to 25 Hz.
        bent: share of vocals from anywhere whose speed, pitch and formants move by up to seven semitones either way.
    """

    coherent: float = 0.3
    songs: float = 1.0
    present: float = 0.85
    far: float = 0.0
    choirs: float = 0.0
    deep: float = 0.0
    bent: float = 0.0

    def __post_init__(self) -> None:
        shares = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "songs"}
        if wrong := {name: share for name, share in shares.items() if not 0 <= share <= 1}:
            raise ValueError(f"got shares {wrong}, expected 0 to 1")
        if self.songs <= 0:
            raise ValueError(f"got songs {self.songs} times as often, expected more than 0")


class MusicMixer:
    """Four stems, either of one song or rendered piece at one place, or each from anywhere, as `mixing` has it.

    Gain, side, polarity and speed (with pitch) vary. What a rendered piece lacks comes from anywhere in half of the cases.
    `augment` then does what a studio does.
    """

    def __init__(
        self,
        tracks: Sequence[Track],
        seconds: float,
        mixing: Mixing | None = None,
        rate: int = 44100,
        augment: Augment | None = None,
    ) -> None:
        self.length, self.mixing, self.augment = int(seconds * rate), mixing or Mixing(), augment
        self.by_stem = {stem: [t for t in tracks if t.stem == stem and t.active.any()] for stem in STEMS}
        self.songs: dict[str, dict[str, Track]] = defaultdict(dict)
        for track in tracks:
            self.songs[track.song][track.stem] = track
        kinds: dict[str, list[str]] = defaultdict(list)
        for name, stems in self.songs.items():
            if len(stems) > 1:
                kinds[next(iter(stems.values())).kind].append(name)
        self.kinds = list(kinds.values())
        often = np.array([self.mixing.songs if kind == "song" else 1.0 for kind in kinds])
        self.likely = often / often.sum()
        missing = [stem for stem, found in self.by_stem.items() if not found]
        if missing:
            raise ValueError(f"got no track of {missing}, expected some of each of {STEMS}")
        self.weights = {stem: self.weigh(found) for stem, found in self.by_stem.items()}

    @staticmethod
    def weigh(found: Sequence[Track]) -> NDArray[np.float64]:
        """Every kind as much as the next, but one of which there is little by its length; songs' and cut-up vocals twice."""
        kinds: dict[str, float] = defaultdict(float)
        for track in found:
            kinds[track.kind] += float(track.active.sum())
        share = {
            kind: (2.0 if kind in TWICE and found[0].stem == "vocals" else 1.0) * min(1.0, n / ENOUGH)
            for kind, n in kinds.items()
        }
        weight = np.array([track.active.sum() / kinds[track.kind] * share[track.kind] for track in found])
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
        """Stems `[4, 2, T]` of one song or piece, with its own levels give or take 3 dB."""
        names = self.kinds[rng.choice(len(self.kinds), p=self.likely)]
        stems = self.songs[names[rng.integers(len(names))]]
        known = [track.active for track in stems.values()]
        counts = np.zeros(max(len(active) for active in known), int)
        for active in known:
            counts[: len(active)] += active
        start, speed = self.place(rng, counts >= min(2, counts.max())), self.speed(rng)
        out = np.zeros((4, 2, self.length), np.float32)
        for row, stem in enumerate(STEMS):
            if stem in stems:
                out[row] = self.cut(stems[stem], start, speed) * decibels(rng.uniform(-3, 3))
        level = max(1e-3, max(rms(pcm) for pcm in out))
        for row, stem in enumerate(STEMS):
            if stem not in stems and next(iter(stems.values())).kind != "song" and rng.random() < 0.5:
                out[row] = self.layer(rng, stem) * level * decibels(rng.normal(0, 4))
        return out

    def layer(self, rng: Generator, stem: str) -> Audio:
        """`[2, T]` of a stem from anywhere, at unit RMS."""
        track = self.by_stem[stem][rng.choice(len(self.by_stem[stem]), p=self.weights[stem])]
        # A share of 0 draws nothing.
        speed, mixing = self.speed(rng), self.mixing
        if stem == "bass" and mixing.deep and rng.random() < mixing.deep:
            speed *= rng.uniform(0.5, 0.75)
        if stem == "vocals" and mixing.bent and rng.random() < mixing.bent:
            speed *= 2 ** rng.uniform(-7 / 12, 7 / 12)
        pcm = self.cut(track, self.place(rng, track.active), speed)
        return np.asarray(pcm / max(1e-3, rms(pcm)), np.float32)

    def anything(self, rng: Generator) -> Audio:
        """Stems `[4, 2, T]` from anywhere, each at a level of its own."""
        out = np.zeros((4, 2, self.length), np.float32)
        present = rng.random(4) < self.mixing.present
        present[rng.integers(4)] = True
        for row in np.flatnonzero(present):
            layers = 2 if STEMS[row] == "other" and rng.random() < 0.3 else 1
            if STEMS[row] == "vocals" and self.mixing.choirs and rng.random() < self.mixing.choirs:
                layers = int(rng.integers(2, 4))
            for _ in range(layers):
                out[row] += self.layer(rng, STEMS[row]) * decibels(rng.normal(0, 4)) * rng.choice((-1, 1))
            if self.mixing.far and rng.random() < self.mixing.far:
                out[row] *= decibels(rng.uniform(-18, 0))
        return out

    def one(self, rng: Generator) -> Audio:
        stems = self.together(rng) if self.kinds and rng.random() < self.mixing.coherent else self.anything(rng)
        if self.augment is not None:
            stems = self.augment(rng, stems)
        for row in range(4):
            if rng.random() < 0.5:
                stems[row] = stems[row, ::-1]
            stems[row] *= np.array([[decibels(rng.uniform(-2, 2))], [1]], np.float32)
        return stems * np.float32(decibels(rng.uniform(-32, -12)) / max(1e-4, rms(stems.sum(0))))

    def batch(self, rng: Generator, size: int) -> tuple[Audio, Audio]:
        """Mixtures `[B, 2, T]` and stems `[B, 4, 2, T]`."""
        stems = np.stack([self.one(rng) for _ in range(size)])
        return stems.sum(1), stems

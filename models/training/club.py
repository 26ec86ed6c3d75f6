"""Made-up dance music: a kick, a bass that meets it, avoids it or gives way to it, pads, plucks, risers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from models.training import score
from models.training.mixing import decibels
from models.training.score import MAJOR, MINOR, Note
from models.training.synth import RATE, Audio, Sound, kick, lay, riser, stack, synth_bass

QUARTERS = (0.0, 1.0, 2.0, 3.0)
TAIL = 0.45  # of a beat: what sounds on until the next kick is a bass (drums of songs sound 0 to 22 % of the time below 100 Hz)


@dataclass(frozen=True)
class Groove:
    """Some bars: beats are seconds, bars have four of them; one root (a degree of the scale) a bar."""

    beat: float
    roots: tuple[int, ...]
    scale: tuple[int, ...]
    key: int

    @property
    def bars(self) -> int:
        return len(self.roots)

    def at(self, bar: int, beats: float) -> float:
        """Seconds from the start."""
        return (4 * bar + beats) * self.beat

    def pitch(self, bar: int, steps: int, octave: int) -> int:
        """MIDI pitch, `steps` of the scale above the root of a bar."""
        degree = self.roots[bar] + steps
        return self.key + self.scale[degree % 7] + 12 * (degree // 7 + octave)


def groove(rng: Generator, seconds: float) -> Groove:
    beat = 60 / rng.uniform(95, 150)
    bars = max(4, int(seconds / (4 * beat)))
    four = [int(root) for root in rng.choice((0, 0, 3, 4, 5), 4)]
    scale = MAJOR if rng.random() < 0.3 else MINOR
    return Groove(beat, tuple(four[bar % 4] for bar in range(bars)), scale, int(rng.integers(12)))


def kicks(rng: Generator, bed: Groove) -> list[Note]:
    """On every beat, or broken; a bar in six has none."""
    places = QUARTERS if rng.random() < 0.7 else (0.0, *(s / 4 for s in range(2, 16) if rng.random() < 0.25))
    silent = {int(bar) for bar in rng.integers(0, bed.bars, bed.bars // 6)}
    bars = [bar for bar in range(bed.bars) if bar not in silent]
    return [Note(bed.at(bar, place), 0.3, score.KICK, 120) for bar in bars for place in places]


def ended(pcm: Audio, length: int) -> Audio:
    """At most `length` samples of `[2, N]`, the last 400 of them fading."""
    pcm = pcm[:, :length]
    return np.asarray(pcm * np.minimum(1, (pcm.shape[1] - np.arange(pcm.shape[1])) / 400), np.float32)


def bass_line(rng: Generator, bed: Groove) -> list[Note]:
    """With the kick, between the kicks, rolling in sixteenths, or held."""
    places, hold = {
        0: (QUARTERS, rng.uniform(0.2, 0.6)),
        1: ([place + 0.5 for place in QUARTERS], 0.4),
        2: ([s / 4 for s in range(16) if s % 4 or rng.random() < 0.2], 0.22),
        3: ([0.0], 3.9),
    }[int(rng.integers(4))]
    octave = 2 + int(rng.random() < 0.4)
    return [
        Note(bed.at(bar, place), hold * bed.beat, bed.pitch(bar, 0, octave), 110)
        for bar in range(bed.bars)
        for place in places
    ]


def pads(bed: Groove) -> list[Note]:
    steps = (0, 2, 4)
    return [Note(bed.at(b, 0), 3.9 * bed.beat, bed.pitch(b, s, 4), 90) for b in range(bed.bars) for s in steps]


def plucks(rng: Generator, bed: Groove) -> list[Note]:
    """A rhythm of sixteenths on notes of the chord."""
    places = [s / 4 for s in range(16) if rng.random() < 0.4] or [0.0]

    def note(bar: int, place: float) -> Note:
        pitch = bed.pitch(bar, 2 * int(rng.integers(4)), 5)
        return Note(bed.at(bar, place), 0.2 * bed.beat, pitch, int(rng.integers(60, 120)))

    return [note(bar, place) for bar in range(bed.bars) for place in places]


def summed(parts: Sequence[Audio], length: int) -> Audio:
    """`[2, length]`."""
    out = np.zeros((2, length), np.float32)
    for part in parts:
        out[:, : part.shape[1]] += part[:, :length]
    return out


def pumping(rng: Generator, hits: Sequence[Note], length: int) -> Audio:
    """The gain of side-chain compression, `[length]`: down at every kick, back within a fifth of a second."""
    since = np.full(length, 10.0)
    for note in hits:
        at = int(note.start * RATE)
        since[at : at + RATE] = np.arange(len(since[at : at + RATE])) / RATE
    return np.asarray(1 - rng.uniform(0.4, 1) * np.exp(-since / rng.uniform(0.06, 0.2)), np.float32)


def club(rng: Generator, seconds: float, drums: Sound) -> dict[str, Audio]:
    """Bass, drums and other, `[2, N]` each; `drums` is asked for every drum but the kick, which is made here."""
    bed = groove(rng, seconds)
    boom = ended(kick(rng), int(TAIL * bed.beat * RATE))
    length = int(bed.at(bed.bars, 0) * RATE) + RATE
    hits = kicks(rng, bed)
    rest = [note for note in score.drum_notes(rng, bed.beat, bed.bars) if note.pitch != score.KICK]
    other = [lay(pads(bed), stack(rng, rng.uniform(500, 4000)))]
    other.append(lay(plucks(rng, bed), stack(rng, rng.uniform(1000, 9000))))
    for _ in range(int(rng.integers(0, 3))):
        start = int(rng.uniform(0, length - 4 * RATE))
        other.append(np.pad(riser(rng, rng.uniform(1, 4)), ((0, 0), (start, 0))))
    stems = {
        "drums": [1.2 * lay(hits, lambda _: boom), decibels(rng.uniform(-6, 3)) * lay(rest, drums)],
        "bass": [lay(bass_line(rng, bed), synth_bass(rng))],
        "other": other,
    }
    out = {stem: summed(parts, length) for stem, parts in stems.items()}
    if rng.random() < 0.6:
        gain = pumping(rng, hits, length)
        out |= {stem: out[stem] * gain for stem in ("bass", "other")}
    return out

"""Voices on a sampler, as electronic music has them: slices of a voice, stacked to chords, held, cut and repeated in a beat.

Such a voice has neither words nor glides, and often several pitches at once; a network that has only met singers takes it for
a synthesiser. The slices are of the vocals of the training songs and of the singers and speakers that `sing.py` made, which
must be in the cache already. Pitch moves by speed, as a sampler does it, so that formants move too.

`python -m models.training.chops [--data DIR] [--cache DIR] [--count N]`
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models.training.augment_music import Augment, Shares
from models.training.data import BLOCK, Track, floats, music_bank, store_track
from models.training.mixing import decibels, resampled, rms
from models.training.score import MAJOR, MINOR

RATE = 44100
KIND = "chopped"
CHORDS = ((0,), (0,), (0, 12), (0, 7), (0, 4, 7), (0, 3, 7), (0, 5, 12), (0, 3, 7, 10), (0, 4, 7, 11))
FADE = 150  # samples, 3.4 ms: a cut that does not click
Audio = NDArray[np.float32]


def fade(pcm: Audio, decay: float | None = None) -> Audio:
    """`[2, N]` with both ends at zero, dying away by 1/e in `decay` seconds if that is given."""
    length = pcm.shape[-1]
    ramp = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / FADE)
    shape = ramp if decay is None else ramp * np.exp(-np.arange(length) / RATE / decay)
    return np.asarray(pcm * shape.astype(np.float32), np.float32)


def loudest(pcm: Audio, length: int) -> int:
    """Where the `length` samples of most energy begin."""
    sums = np.concatenate(([0.0], np.cumsum(np.square(pcm, dtype=np.float64).sum(0))))
    return int(np.argmax(sums[length:] - sums[:-length]))


def cut(rng: Generator, tracks: Sequence[Track]) -> Audio:
    """A loud slice of 0.15 to 1.2 s of any of these tracks, `[2, N]` at unit RMS."""
    track = tracks[int(rng.integers(len(tracks)))]
    start = int(rng.choice(np.flatnonzero(track.active))) * BLOCK
    around = floats(track.pcm[:, start : start + 3 * BLOCK], track.gain)
    length = min(around.shape[1], int(rng.uniform(0.15, 1.2) * RATE))
    at = loudest(around, length)
    found = around[:, at : at + length]
    return np.asarray(found / max(1e-4, rms(found)), np.float32)


def held(rng: Generator, pcm: Audio, length: int) -> Audio:
    """The loudest moment of a slice for as long as is wanted, `[2, length]`: grains of 60 to 200 ms, half over each other."""
    grain = min(pcm.shape[1], int(rng.uniform(0.06, 0.2) * RATE)) // 2 * 2
    centre, spread = loudest(pcm, grain), int(rng.choice((0, 0, grain // 2)))
    window, half = np.sqrt(np.hanning(grain + 1)[:-1]).astype(np.float32), grain // 2
    out = np.zeros((2, length + grain), np.float32)
    for at in range(0, length, half):
        start = int(np.clip(centre + rng.integers(-spread, spread + 1), 0, pcm.shape[1] - grain))
        out[:, at : at + grain] += pcm[:, start : start + grain] * window
    return out[:, :length]


def at_pitch(pcm: Audio, semitones: float) -> Audio:
    """Faster and higher, or slower and lower, `[2, N] -> [2, N / speed]`."""
    speed = 2 ** (semitones / 12)
    return resampled(np.pad(pcm, ((0, 0), (1, 8))), speed, max(2 * FADE, int((pcm.shape[1] - 1) / speed)))


def stacked(rng: Generator, pcm: Audio, chord: Sequence[int]) -> Audio:
    """One slice at every pitch of a chord, each a little out of tune and to a side, `[2, N]`, as long as the lowest."""
    notes = [at_pitch(pcm, pitch + rng.normal(0, 0.06)) for pitch in chord]
    out = np.zeros((2, max(note.shape[1] for note in notes)), np.float32)
    for note in notes:
        side = rng.uniform(0.4, 1, (2, 1)).astype(np.float32) if len(chord) > 1 else np.float32(1)
        out[:, : note.shape[1]] += note * side / np.sqrt(len(notes))
    return out


def instrument(rng: Generator, tracks: Sequence[Track], step: int) -> list[Audio]:
    """Three to eight sounds `[2, N]` for the pads of a sampler: slices of a voice or two, plain, held, reversed or stuttering."""
    voices = [tracks[int(k)] for k in rng.integers(len(tracks), size=rng.integers(1, 3))]
    scale, kind = MAJOR if rng.random() < 0.5 else MINOR, rng.random(4)
    slices = [cut(rng, voices) for _ in range(rng.integers(1, 4))]
    chords, pads = [CHORDS[k] for k in rng.integers(len(CHORDS), size=2)], []
    for _ in range(rng.integers(3, 9)):
        pcm = slices[rng.integers(len(slices))]
        if kind[0] < 0.3 and rng.random() < 0.7:
            pcm = held(rng, pcm, int(rng.choice((2, 4, 8, 16)) * step * rng.uniform(1, 1.5)))
        degree = int(rng.integers(-3, 6))
        pcm = at_pitch(pcm, scale[degree % 7] + 12 * (degree // 7)) if kind[1] < 0.6 else pcm
        pcm = stacked(rng, pcm, chords[rng.integers(2)])
        if rng.random() < 0.12:
            pcm = pcm[:, ::-1]
        if kind[2] < 0.35 and rng.random() < 0.4:  # the same moment again and again, two, three or four a beat
            short = fade(pcm[:, : max(2 * FADE, step // int(rng.choice((1, 2))))])
            pcm = np.tile(short, int(rng.choice((2, 3, 4, 8))))
        pads.append(fade(pcm, rng.uniform(0.08, 0.6) if kind[3] < 0.2 else None))
    return pads


def pattern(rng: Generator, sounds: int) -> list[tuple[int, int, int]]:
    """One or two bars of 16 steps: (step, which sound, for how many steps it may last)."""
    steps, at, hits = int(rng.choice((16, 32))), int(rng.choice((0, 0, 2, 4))), []
    lengths = rng.choice(((1, 2, 2, 3), (2, 3, 4, 4), (4, 6, 8, 16)), axis=0)
    while at < steps:
        length = int(rng.choice(lengths))
        if rng.random() < 0.8:
            hits.append((at, int(rng.integers(sounds)), length))
        at += length
    return hits or [(0, 0, 4)]


def chopped(rng: Generator, tracks: Sequence[Track], seconds: float = 24.0) -> Audio:
    """A part `[2, N]`: patterns that repeat, with rests and a change of sounds half way; then echo, hall and drive."""
    step, length = int(60 / rng.uniform(80, 175) / 4 * RATE), int(seconds * RATE)
    out = np.zeros((2, length), np.float32)
    one_voice = rng.random() < 0.5
    for half in (0, 1):
        pads = instrument(rng, tracks, step)
        cuts = rng.random() < 0.6  # a new sound ends the one before, as on a sampler with one voice
        patterns = [pattern(rng, len(pads)) for _ in range(2)]
        bar, at, end = 0, half * length // 2, (half + 1) * length // 2
        while at < end:
            hits = patterns[1] if bar % 4 == 3 else patterns[0]
            for place, which, lasts in hits if rng.random() < 0.9 else ():
                start = at + place * step
                sound = pads[which]
                sound = fade(sound[:, : lasts * step]) if cuts or one_voice else sound
                sound = sound[:, : max(0, length - start)]
                out[:, start : start + sound.shape[1]] += sound * np.float32(decibels(rng.uniform(-4, 2)))
            at, bar = at + (32 if any(place >= 16 for place, _, _ in hits) else 16) * step, bar + 1
    studio = Shares(0.4, 0.6, 0.5, 0.25, 0.25, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0)
    stems = np.zeros((4, *out.shape), np.float32)
    stems[0] = out
    return np.asarray(Augment(studio)(rng, stems)[0], np.float32)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.chops", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--count", type=int, default=120)
    parser.add_argument("--first", type=int, default=0, help="number of the first (and its seed)")
    chosen = parser.parse_args(words)
    voices = [t for t in music_bank(chosen.data, chosen.cache)[0] if t.stem == "vocals" and t.active.any()]
    kinds = {kind: [t for t in voices if t.kind == kind] for kind in ("song", "sung", "spoken")}
    kinds = {kind: found for kind, found in kinds.items() if found}
    if not kinds:
        raise ValueError(f"{chosen.cache}: got no vocals to cut, expected those of songs or of models.training.sing")
    for number in range(chosen.first, chosen.first + chosen.count):
        rng = np.random.default_rng((10, number))
        source = list(kinds)[int(rng.integers(len(kinds)))]
        store_track(chosen.cache / "tracks", f"{KIND}{number:03}", "vocals", KIND, chopped(rng, kinds[source]))


if __name__ == "__main__":
    main()

"""Conversations with known voices, to measure separation and stitching on: who said what, sample by sample.

Turns of different people follow each other after a silence, or begin inside the turn before, as often as it takes for the
asked share of speech to be of two people at once. Everybody is a speaker that no model here was trained on: the held-out
part of the speech that `make train` decodes (`runs/cache`), or one folder a speaker.

A conversation is a folder: `mixture.wav` and `person_1.wav`, `person_2.wav`, ..., which add up to it, in the order of their
first words. Any separator can be run on it: `tracks/<name>/track_1.wav`, ... beside them are what is scored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

RATE, FRAME = 16000, 160
FADE = 80  # samples at both ends of a turn
Audio = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Recipe:
    """How a conversation goes.

    Attributes:
        people: who take part.
        seconds: in all.
        silence: seconds between turns that do not overlap, from and to; drawn evenly in the logarithm.
        overlap: share of the time with speech in which two speak.
        turn: seconds of a turn, from and to.
        level_db: people are up to so much louder or softer than the mean.
    """

    people: int = 2
    seconds: float = 60.0
    silence: tuple[float, float] = (0.5, 10.0)
    overlap: float = 0.2
    turn: tuple[float, float] = (1.5, 6.0)
    level_db: float = 3.0

    def __post_init__(self) -> None:
        if not 1 < self.people <= 8 or not 0 <= self.overlap <= 0.8 or self.seconds <= 0:
            raise ValueError(f"got {self}, expected 2 to 8 people, an overlap of 0 to 0.8, and some seconds")
        if not 0 < self.silence[0] <= self.silence[1] or not 0.5 <= self.turn[0] <= self.turn[1]:
            raise ValueError(f"got silence {self.silence} s and turns of {self.turn} s, expected shortest and longest")


@dataclass(frozen=True)
class Speech:
    """Recordings of one voice each, `[N]` 16-bit at 16 kHz, by speaker."""

    names: tuple[str, ...]
    clips: tuple[tuple[NDArray[np.int16], ...], ...]


def cached(cache: Path, split: Path) -> Speech:
    """The held-out speakers of a decoded cache (`speech.npy`, `speech.json`).

    Raises:
        FileNotFoundError: it is not there, saying how to get it.
    """
    if not (cache / "speech.json").is_file():
        raise FileNotFoundError(f"{cache}: got no speech.json there, expected decoded speech (`make train` makes it)")
    held = set(json.loads(split.read_text())["speech"]["validation"])
    pcm = np.load(cache / "speech.npy", mmap_mode="r")
    clips: dict[str, list[NDArray[np.int16]]] = {}
    for name, start, length in json.loads((cache / "speech.json").read_text()):
        if name in held:
            clips.setdefault(name, []).append(pcm[start : start + length])
    if len(clips) < 2:
        raise FileNotFoundError(f"{cache}: got {len(clips)} held-out speakers there, expected at least 2")
    return Speech(tuple(clips), tuple(tuple(group) for group in clips.values()))


def speaking(pcm: Audio, gap: int = 30, gate_db: float = 32.0) -> Flags:
    """Frames of 10 ms with speech in a clean recording, `[T] -> [T // 160]`; pauses below `gap` frames count as speech."""
    level = np.square(pcm[: len(pcm) // FRAME * FRAME].reshape(-1, FRAME)).mean(1)
    if not level.any():
        return np.zeros(len(level), bool)
    active = level > np.percentile(level[level > 1e-9], 95) * 10 ** (-gate_db / 10)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], active.astype(np.int8), [0]))))
    for end, start in zip(edges[1:-1:2], edges[2::2], strict=False):
        if start - end < gap:
            active[end:start] = True
    return np.asarray(active)


def conversation(speech: Speech, recipe: Recipe, rng: Generator) -> Audio:
    """The voices `[P, T]` of one conversation, peak of their sum 0.5, in the order of their first words."""
    length = int(recipe.seconds * RATE) // FRAME * FRAME
    chosen = rng.choice(len(speech.names), recipe.people, replace=False)
    levels = 10 ** (rng.uniform(-recipe.level_db, recipe.level_db, recipe.people) / 20)
    voices = np.zeros((recipe.people, length), np.float32)
    free = np.zeros(recipe.people, int)  # the first sample at which each is silent again
    spoken = together = 0
    at, end, who = int(rng.uniform(0.2, 0.8) * RATE), 0, -1
    while at < length - RATE // 2:
        others = [p for p in range(recipe.people) if p != who and free[p] <= at]
        who = int(rng.choice(others)) if others else who
        said = utterance(speech.clips[chosen[who]], float(rng.uniform(*recipe.turn)), rng)[: length - at]
        voices[who, at : at + len(said)] += np.float32(levels[who]) * said
        both = max(0, min(end, at + len(said)) - at)
        together, spoken = together + both, spoken + len(said) - both
        free[who] = at + len(said)
        start, end = at, max(end, at + len(said))
        at = _next(recipe, rng, start, end, free[who], together, spoken)
        at = max(at, int(np.sort(free)[-2]))  # never three at once
    voices = voices[voices.any(1)]
    voices = voices[np.argsort((voices != 0).argmax(1), kind="stable")]
    return np.asarray(voices * np.float32(0.5 / max(1e-3, float(np.abs(voices.sum(0)).max()))), np.float32)


def _next(recipe: Recipe, rng: Generator, start: int, end: int, own: int, together: int, spoken: int) -> int:
    """When the next turn begins: inside this one while there has been too little overlap, else after a silence."""
    if together < recipe.overlap * spoken:
        wanted = min(recipe.overlap * spoken - together + 0.3 * RATE, own - start - 0.2 * RATE)
        return int(own - max(wanted, 0)) if own == end else own + RATE // 5  # while the longer turn still goes on
    quiet = np.exp(rng.uniform(*np.log(recipe.silence)))
    return end + int(quiet * RATE)


def utterance(clips: tuple[NDArray[np.int16], ...], seconds: float, rng: Generator) -> Audio:
    """Speech from its first sound on, of unit RMS, faded at both ends; shorter where a clip is."""
    clip = clips[rng.integers(len(clips))]
    frames = min(int(seconds * 100), len(clip) // FRAME)
    flags = speaking(np.asarray(clip, np.float32))
    starts = np.flatnonzero(flags[: len(flags) - frames + 1])
    first = int(rng.choice(starts)) if len(starts) else 0
    pcm = np.asarray(clip[first * FRAME : (first + frames) * FRAME], np.float32)
    last = np.flatnonzero(flags[first : first + frames])
    pcm = pcm[: (int(last[-1]) + 1) * FRAME if len(last) else len(pcm)].copy()
    ramp = np.linspace(0, 1, FADE, dtype=np.float32)
    pcm[:FADE] *= ramp
    pcm[-FADE:] *= ramp[::-1]
    return np.asarray(pcm / max(1e-3, float(np.sqrt(np.square(pcm).mean()))), np.float32)


def write(folder: Path, voices: Audio) -> None:
    """One conversation as WAV files of 16 bits."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / "mixture.wav", voices.sum(0), RATE, subtype="PCM_16")
    for number, voice in enumerate(voices, 1):
        soundfile.write(folder / f"person_{number}.wav", voice, RATE, subtype="PCM_16")


def read(paths: list[Path]) -> Audio:
    """Mono files of one length as rows, `[N, T]`, at 16 kHz.

    Raises:
        ValueError: another rate, or stereo, naming the file.
    """
    import soundfile

    rows = []
    for path in paths:
        pcm, rate = soundfile.read(path, dtype="float32")
        if rate != RATE or pcm.ndim != 1:
            raise ValueError(f"{path}: got {rate} Hz and shape {pcm.shape}, expected {RATE} Hz mono")
        rows.append(pcm)
    length = min(map(len, rows))
    return np.stack([row[:length] for row in rows])


def numbered(folder: Path, stem: str) -> list[Path]:
    """`stem_1.wav`, `stem_2.wav`, ... of a folder, in that order."""
    found: list[Path] = []
    while (path := folder / f"{stem}_{len(found) + 1}.wav").is_file():
        found.append(path)
    return found

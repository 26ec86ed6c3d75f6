"""Singers out of speakers: read speech, re-sung on a made-up melody by the WORLD vocoder.

M. Morise et al., "WORLD: a vocoder-based high-quality speech synthesis system", 2016 (PyPI `pyworld`). Voiced frames get
the pitch of a melody near the speaker's own, with glides and vibrato; vowels are drawn out by slowing the frames down.
Speech is 16 kHz, so these voices end at 8 kHz: they teach pitch and formants, the songs teach the air above.

`python -m models.training.sing [--data DIR] [--cache DIR] [--count N]`
"""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path

import numpy as np
import soxr
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from models.training.data import Clip, SpeechBank, speech_bank, store_track
from models.training.mixing import decibels
from models.training.score import MAJOR, MINOR

FRAME_S = 0.005
Audio = NDArray[np.float32]


def vocoder() -> types.ModuleType:
    """pyworld 0.3.5, which asks the long-gone `pkg_resources` for nothing but its own version."""
    if "pkg_resources" not in sys.modules:
        stand_in = types.ModuleType("pkg_resources")
        stand_in.get_distribution = lambda name: types.SimpleNamespace(version="")  # type: ignore[attr-defined]
        sys.modules["pkg_resources"] = stand_in
    import pyworld

    module: types.ModuleType = pyworld
    return module


def melody(rng: Generator, frames: int, centre: float) -> NDArray[np.float64]:
    """Pitch in Hz of each frame: notes of a scale around `centre` Hz, short glides, vibrato on the long ones."""
    scale = MAJOR if rng.random() < 0.5 else MINOR
    degree, at = 0, 0
    line = np.zeros(frames)
    while at < frames:
        length = int(rng.choice((0.2, 0.35, 0.5, 0.8, 1.5)) * rng.uniform(0.8, 1.2) / FRAME_S)
        degree = int(np.clip(degree + rng.integers(-3, 4), -5, 7))
        semitones = scale[degree % 7] + 12 * (degree // 7)
        t = np.arange(min(length, frames - at)) * FRAME_S
        vibrato = 0.35 * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * t) * np.clip((t - 0.25) / 0.3, 0, 1)
        line[at : at + length] = semitones + vibrato
        at += length
    glide = np.hanning(15) / np.hanning(15).sum()
    line = np.convolve(np.pad(line, 7, mode="edge"), glide, mode="valid")
    return np.asarray(centre * 2 ** (line / 12))


def sing(rng: Generator, pcm: NDArray[np.float64], rate: int) -> Audio:
    """One recording, `[N]`, sung at 0.5 to 1 of its speed."""
    world = vocoder()
    coarse, times = world.dio(pcm, rate)
    pitch = world.stonemask(pcm, coarse, times, rate)
    voiced = pitch[pitch > 0]
    if len(voiced) < 50:
        return np.zeros(0, np.float32)
    shape, breath = world.cheaptrick(pcm, pitch, times, rate), world.d4c(pcm, pitch, times, rate)
    frames = np.arange(0, len(pitch) - 1, rng.uniform(0.5, 1.0)).astype(int)
    centre = float(np.median(voiced)) * 2 ** (rng.uniform(0, 9) / 12)
    sung = np.where(pitch[frames] > 0, melody(rng, len(frames), centre), 0.0)
    out = world.synthesize(sung, shape[frames].copy(), breath[frames].copy(), rate)
    return np.asarray(out, np.float32)


def place(rng: Generator, pcm: Audio, bank: SpeechBank, doubled: Audio | None) -> Audio:
    """To stereo, `[2, N]`: some reverberation, and for some a second take to the sides."""
    wet = np.stack([pcm, pcm])
    if doubled is not None and len(doubled):
        other = np.resize(doubled, len(pcm)) * decibels(rng.uniform(-9, -2))
        wet += np.stack([other, np.roll(other, int(rng.integers(300, 900)))])
    if bank.rooms and rng.random() < 0.6:
        share = decibels(rng.uniform(-12, -3))
        rooms = [bank.rooms[rng.integers(len(bank.rooms))] for _ in range(2)]
        wet += share * np.stack([fftconvolve(side, r)[: len(pcm)] for side, r in zip(wet, rooms, strict=True)])
    return np.asarray(wet, np.float32)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.sing", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--count", type=int, default=150)
    chosen = parser.parse_args(words)
    bank = speech_bank(chosen.data, chosen.cache)
    folder = chosen.cache / "tracks"
    folder.mkdir(parents=True, exist_ok=True)

    def spoken(clip: Clip) -> NDArray[np.float64]:
        return bank.pcm[clip.start : clip.start + min(clip.length, 10 * 16000)].astype(np.float64) / 32768

    for number in range(chosen.count):
        rng = np.random.default_rng((8, number))
        clip = bank.train[int(rng.integers(len(bank.train)))]
        voice = sing(rng, spoken(clip), 16000)
        if not len(voice):
            continue
        second = sing(rng, spoken(clip), 16000) if rng.random() < 0.25 else None
        stereo = place(rng, voice, bank, second)
        store_track(folder, f"sung{number:03}", "vocals", "sung", soxr.resample(stereo.T, 16000, 44100).T)


if __name__ == "__main__":
    main()

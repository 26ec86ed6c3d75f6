"""Singers out of speakers: read speech, re-sung on a made-up melody by the WORLD vocoder.

M. Morise et al., "WORLD: a vocoder-based high-quality speech synthesis system", 2016 (PyPI `pyworld`). Voiced frames get
the pitch of a melody near the speaker's own, with glides and vibrato; vowels are drawn out by slowing the frames down.
Speech is 16 kHz, so these voices end at 8 kHz; what is above is made from the octave below, as codecs do it (spectral band
replication), or left out.

`--plain` leaves the speech as it was said: real voices, where the vocoder leaves a sound of its own on every singer.

`python -m models.training.sing [--data DIR] [--cache DIR] [--count N] [--plain]`
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
    known = "pkg_resources" in sys.modules
    if not known:
        stand_in = types.ModuleType("pkg_resources")
        stand_in.get_distribution = lambda name: types.SimpleNamespace(version="")  # type: ignore[attr-defined]
        sys.modules["pkg_resources"] = stand_in
    try:
        import pyworld
    finally:
        if not known:  # others would take it for the real one
            del sys.modules["pkg_resources"]

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


def sing(rng: Generator, pcm: NDArray[np.float64], rate: int, line: NDArray[np.float64] | None = None) -> Audio:
    """One recording, `[N]`, sung at 0.5 to 1 of its speed; or on a given line: Hz in each frame of 5 ms, 0 for rests.

    A given line is moved by octaves to where the speaker speaks, and the recording stretched to its length.
    """
    world = vocoder()
    coarse, times = world.dio(pcm, rate)
    pitch = world.stonemask(pcm, coarse, times, rate)
    voiced = pitch[pitch > 0]
    if len(voiced) < 50:
        return np.zeros(0, np.float32)
    shape, breath = world.cheaptrick(pcm, pitch, times, rate), world.d4c(pcm, pitch, times, rate)
    if line is None:
        frames = np.arange(0, len(pitch) - 1, rng.uniform(0.5, 1.0)).astype(int)
        line = melody(rng, len(frames), float(np.median(voiced)) * 2 ** (rng.uniform(0, 9) / 12))
    else:
        frames = np.linspace(0, len(pitch) - 1, len(line)).astype(int)
        line = line * 2 ** np.round(np.log2(1.3 * np.median(voiced) / np.median(line[line > 0])))
    sounds = (np.convolve(line > 0, np.ones(9) / 9, "same") * np.ones(len(line)))[:, None]
    sung = np.where((pitch[frames] > 0) & (line > 0), line, 0.0)
    out = world.synthesize(sung, shape[frames] * sounds**2 + 1e-12, breath[frames].copy(), rate)
    return np.asarray(out, np.float32)


def brightened(rng: Generator, pcm: Audio, rate: int = 44100, edge: int = 7500, size: int = 1024) -> Audio:
    """Voices that end at `edge` Hz with 4 to 7.5 kHz copied above it, and once more, 4 to 16 dB down each, `[2, N]`."""
    window = np.hanning(size + 1)[:-1] ** 0.5
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(pcm, ((0, 0), (size, size))), size, axis=1)[
        :, :: size // 2
    ]
    spectrum = np.fft.rfft(frames * window)
    low, high = (round(hertz * size / rate) for hertz in (4000, edge))
    step, gain = high - low, decibels(rng.uniform(-16, -4))
    for copy in (1, 2):
        at = slice(low + copy * step, high + copy * step)
        spectrum[..., at] = spectrum[..., low:high] * gain**copy
    pieces = np.fft.irfft(spectrum, size) * window
    out = np.zeros((2, (pieces.shape[1] + 1) * size // 2), np.float32)
    for half in (0, 1):
        half_pieces = pieces[..., half * size // 2 : (half + 1) * size // 2].reshape(2, -1)
        out[:, half * size // 2 : half * size // 2 + half_pieces.shape[1]] += half_pieces
    return out[:, size : size + pcm.shape[1]]


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
    parser.add_argument("--first", type=int, default=0, help="number of the first (and its seed)")
    parser.add_argument("--plain", action="store_true", help="not sung: spoken, as in rap")
    chosen = parser.parse_args(words)
    bank, kind = speech_bank(chosen.data, chosen.cache), "spoken" if chosen.plain else "sung"
    folder = chosen.cache / "tracks"
    folder.mkdir(parents=True, exist_ok=True)

    def spoken(clip: Clip) -> NDArray[np.float64]:
        return bank.pcm[clip.start : clip.start + min(clip.length, 10 * 16000)].astype(np.float64) / 32768

    for number in range(chosen.first, chosen.first + chosen.count):
        rng = np.random.default_rng((9 if chosen.plain else 8, number))
        clip = bank.train[int(rng.integers(len(bank.train)))]
        voice = spoken(clip).astype(np.float32) if chosen.plain else sing(rng, spoken(clip), 16000)
        if not len(voice):
            continue
        second = sing(rng, spoken(clip), 16000) if not chosen.plain and rng.random() < 0.25 else None
        stereo = place(rng, voice, bank, second)
        full = soxr.resample(stereo.T, 16000, 44100).T
        if rng.random() < 0.7:
            full = brightened(rng, full)
        store_track(folder, f"{kind}{number:03}", "vocals", kind, full)


if __name__ == "__main__":
    main()

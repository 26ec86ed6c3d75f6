"""What a benchmark plays: never silence, which compresses, gates and denormalises unlike anything that is listened to."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
BEAT = 0.5  # s


def synthetic(seconds: float, rate: int, channels: int) -> Array:
    """A band and a singer, `[C, T]`, the same each time: bass, chords, drums, and a voice with vibrato and syllables."""
    samples = max(1, round(seconds * rate))
    t = np.arange(samples) / rate
    beat = (t / BEAT).astype(int)
    phase = t - beat * BEAT  # s since the beat
    rng = np.random.default_rng(1)
    hiss = rng.normal(size=samples)
    roots = 55.0 * 2 ** (np.array([0, 5, 7, 3])[(beat // 4) % 4] / 12)
    turns = np.cumsum(roots) / rate  # the integral of the frequency: a change of note does not click
    bass = sum(np.sin(2 * np.pi * k * turns) / k for k in range(1, 6)) * np.exp(-4 * phase)
    chord = sum(np.sin(2 * np.pi * k * turns) / k for k in (4, 5, 6, 8, 10, 12))
    kick = np.sin(2 * np.pi * (50 * phase + 6 * (1 - np.exp(-phase * 30)))) * np.exp(-12 * phase)
    snare = hiss * np.exp(-18 * phase) * (beat % 2)
    sung = np.cumsum(roots * 4 * (1 + 0.012 * np.sin(2 * np.pi * 5.5 * t))) / rate
    formants = [
        np.exp(-(((k * 220 - 700) / 500) ** 2)) + 0.5 * np.exp(-(((k * 220 - 1800) / 600) ** 2)) for k in range(1, 16)
    ]
    voice = sum(weight * np.sin(2 * np.pi * k * sung) for k, weight in enumerate(formants, 1) if k * 440 < rate / 2)
    voice = voice * (0.55 + 0.45 * np.sin(2 * np.pi * 3.7 * t))
    left = 0.5 * bass + 0.10 * chord + 0.7 * kick + 0.3 * snare + 0.25 * voice + 0.003 * hiss
    right = 0.5 * bass + 0.16 * chord + 0.7 * kick + 0.2 * snare + 0.25 * voice + 0.003 * rng.normal(size=samples)
    return fit((0.5 * np.stack((left, right)) / np.abs((left, right)).max()).astype(np.float32), channels)


def load(path: Path) -> tuple[Array, int]:
    """A sound file as `[C, T]` and its rate in Hz: with soundfile where it is installed, else 16-bit WAV only."""
    try:
        import soundfile
    except ImportError:
        with wave.open(str(path)) as file:
            if file.getsampwidth() != 2:
                raise ValueError(
                    f"got {8 * file.getsampwidth()} bits in {path}, expected 16 (or install soundfile)"
                ) from None
            data = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
            return (data.T / np.float32(32768)).astype(np.float32), file.getframerate()
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return np.ascontiguousarray(samples.T), int(rate)


def fit(pcm: Array, channels: int) -> Array:
    """`[C, T]` with as many channels as wanted: averaged to one, or doubled to two; more than two keep the first two."""
    if channels == 1:
        mean: Array = pcm.mean(axis=0, keepdims=True, dtype=np.float32)
        return mean
    return np.repeat(pcm, 2, axis=0) if len(pcm) == 1 else pcm[:2]


def packets(pcm: Array, packet: int, most: int) -> list[Array]:
    """`[C, T]` cut into at most `most` pieces `[C, packet]`, all whole; to be played round and round."""
    if pcm.shape[1] == 0:
        raise ValueError("got a sound of 0 samples")
    whole = np.tile(pcm, -(-packet // pcm.shape[1])) if pcm.shape[1] < packet else pcm
    return [whole[:, at * packet : (at + 1) * packet] for at in range(min(most, whole.shape[1] // packet))]

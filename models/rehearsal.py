"""What a long conversation costs: a made one, and the state of a model in the middle of it.

A run of a model that tells speakers apart costs least at the beginning of a stream and in silence or noise, and most when
all its memories are full and somebody speaks. Whoever promises anything has to measure the latter.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.separator import Separator
from streaming.framing import Array

RATE = 16000
LONG = 32  # s after which a diarizer's memory is as full as it gets


def talk(seconds: float, seed: int = 0) -> Array:
    """Two buzzing voices of their own pitch and formants, in turns of 1.5 s with pauses, `[T]` at 16 kHz.

    Speech to Silero, two people to the encoder.
    """
    rng, time = np.random.default_rng(seed), np.arange(int(seconds * RATE)) / RATE
    out = np.zeros(len(time))
    for who, (pitch, formants) in enumerate(((110, (600, 1100, 2500)), (220, (850, 1700, 3100)))):
        phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.06 * np.sin(2 * np.pi * 3 * time + who))) / RATE
        voice = np.zeros(len(time))
        for k in range(1, 30):
            drift = 1 + 0.25 * np.sin(2 * np.pi * (0.9 + 0.2 * who) * time)
            gain = sum(np.exp(-0.5 * ((k * pitch - f * drift) / 150) ** 2) for f in formants)
            voice += (gain + 0.02) * np.sin(k * phase) / np.sqrt(k)
        syllables = np.clip(1.5 * np.sin(2 * np.pi * 4.2 * time + who), 0, 1)
        out += voice * syllables * ((time // 1.5).astype(int) % 2 == who) * ((time % 1.5) < 1.3)
    return np.asarray(0.05 * out + 0.0005 * rng.standard_normal(len(time)), np.float32)


def rehearsed(separator: Separator) -> tuple[Any, Array]:
    """A state late in a conversation, and the window that comes next, `[C, W]`, with speech in it."""
    spec, window = separator.spec, separator.spec.framing.window
    said = talk(LONG)
    length = round(LONG * spec.rate) // window * window
    sound = np.interp(np.arange(length) * (RATE / spec.rate), np.arange(len(said)), said).astype(np.float32)
    pcm = np.repeat(sound[None], spec.channels, 0)
    state = separator.start()
    for at in range(0, length, window):
        _, (state,) = separator.run(pcm[None, :, at : at + window], [state])
    level = np.square(sound.reshape(-1, window)).sum(1)
    loud = int(level.argmax()) * window
    return state, pcm[:, loud : loud + window]

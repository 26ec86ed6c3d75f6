"""Something that a voice activity network takes for speech, made on the spot."""

from __future__ import annotations

import numpy as np

from streaming.framing import Array


def talk(seconds: float, seed: int = 0) -> Array:
    """Two buzzing voices of their own pitch and formants, in turns of 1.5 s with pauses: speech to Silero, two to the encoder."""
    rng, time = np.random.default_rng(seed), np.arange(int(seconds * 16000)) / 16000
    out = np.zeros(len(time))
    for who, (pitch, formants) in enumerate(((110, (600, 1100, 2500)), (220, (850, 1700, 3100)))):
        phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.06 * np.sin(2 * np.pi * 3 * time + who))) / 16000
        voice = np.zeros(len(time))
        for k in range(1, 30):
            drift = 1 + 0.25 * np.sin(2 * np.pi * (0.9 + 0.2 * who) * time)
            gain = sum(np.exp(-0.5 * ((k * pitch - f * drift) / 150) ** 2) for f in formants)
            voice += (gain + 0.02) * np.sin(k * phase) / np.sqrt(k)
        syllables = np.clip(1.5 * np.sin(2 * np.pi * 4.2 * time + who), 0, 1)
        out += voice * syllables * ((time // 1.5).astype(int) % 2 == who) * ((time % 1.5) < 1.3)
    return np.asarray(0.05 * out + 0.0005 * rng.standard_normal(len(time)), np.float32)

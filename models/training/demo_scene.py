"""The scene that ships with the page: two people by a river, who pause and interrupt each other. Nobody was recorded.

Both are espeak-ng. So that they differ by more than pitch, each voice's spectral envelope is moved by WORLD, as a longer or
shorter throat moves it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from models.training.demo_song import say
from models.training.sing import vocoder

RATE = 48000
Audio = NDArray[np.float32]
QUIET = 0.5  # s before the first word


@dataclass(frozen=True)
class Voice:
    """espeak-ng's options; the pitch and the formants, as factors of its own; and the level, dB."""

    options: tuple[str, ...]
    pitch: float
    throat: float
    level: float


@dataclass(frozen=True)
class Turn:
    """One person in the samples [start, end) at `RATE`."""

    speaker: int
    start: int
    end: int


VOICES = (
    Voice(("-v", "en-us", "-s", "150"), 0.85, 0.9, -23.0),
    Voice(("-v", "en-us+f4", "-s", "160"), 1.3, 1.18, -23.0),
)
SCRIPT = (  # speaker, seconds after the end of the line before (below zero: into it), text
    (0, 0.0, "Good morning. You were at the river early, I saw your lamp on the bridge."),
    (1, 0.6, "I was. The water rose all night, and it carried half the mill away."),
    (0, 0.4, "Half the mill? Then we can not wait until the weekend."),
    (1, -0.9, "No, we can not. The boats have to come in today, before it gets dark."),
    (0, 1.1, "Who is still out there?"),
    (1, 0.3, "Three of them, two with nets and one with wood."),
    (0, -0.7, "Then I will ring the bell, and you will light the fire on the hill."),
    (1, 0.5, "Good. And tonight we will sit in the dry and count the fish."),
)


def speak(voice: Voice, text: str) -> Audio:
    """`[T]` at `RATE`."""
    pcm, rate = say(text, voice.options)
    world = vocoder()
    coarse, times = world.dio(pcm, rate)
    pitch = world.stonemask(pcm, coarse, times, rate)
    shape, breath = world.cheaptrick(pcm, pitch, times, rate), world.d4c(pcm, pitch, times, rate)
    bins = np.arange(shape.shape[1]) / voice.throat
    moved = np.stack([np.exp(np.interp(bins, np.arange(len(frame)), np.log(frame))) for frame in shape])
    out = soxr.resample(world.synthesize(voice.pitch * pitch, moved, breath, rate), rate, RATE)
    loud = out[np.abs(out) > 0.02 * np.abs(out).max()]
    return np.asarray(out * 10 ** (voice.level / 20) / np.sqrt((loud**2).mean()), np.float32)


def scene() -> tuple[Audio, list[Turn]]:
    """`[2, T]`, one person each, which add up to the scene; and who speaks when."""
    lines = [(speaker, gap, speak(VOICES[speaker], text)) for speaker, gap, text in SCRIPT]
    length = round(sum(gap + len(pcm) / RATE for _, gap, pcm in lines) * RATE) + round(2 * QUIET * RATE)
    people, turns, at = np.zeros((2, length), np.float32), [], round(QUIET * RATE)
    for speaker, gap, pcm in lines:
        at += round(gap * RATE)
        people[speaker, at : at + len(pcm)] += pcm
        turns += [Turn(speaker, at + start, at + end) for start, end in spoken(pcm)]
        at += len(pcm)
    return people, turns


def spoken(pcm: Audio, hold: float = 0.2) -> list[tuple[int, int]]:
    """Samples `[start, end)` that sound, pauses of up to `hold` seconds included."""
    loud = np.flatnonzero(np.abs(pcm) > 0.02 * np.abs(pcm).max())
    breaks = np.flatnonzero(np.diff(loud) > hold * RATE)
    starts, ends = loud[np.r_[0, breaks + 1]], loud[np.r_[breaks, len(loud) - 1]] + 1
    return [(int(start), int(end)) for start, end in zip(starts, ends, strict=True)]


def rttm(turns: list[Turn], recording: str = "scene") -> str:
    """NIST's Rich Transcription Time Marked."""
    lines = ((turn.start / RATE, (turn.end - turn.start) / RATE, turn.speaker + 1) for turn in turns)
    return "".join(
        f"SPEAKER {recording} 1 {at:.3f} {long:.3f} <NA> <NA> speaker_{who} <NA> <NA>\n" for at, long, who in lines
    )

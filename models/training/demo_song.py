"""The song that ships with the page: four sung lines over drums, bass, strings and keys, made of nothing that anybody recorded.

The singer is espeak-ng, one syllable at a time, whose WORLD parameters are stretched to the notes and joined before they are
sounded, so that the line is sung in one breath. The band is FluidSynth with the General MIDI sounds of FluidR3 (MIT).
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, sosfilt

from models.training.render import fluidsynth
from models.training.score import CLOSED, CRASH, KICK, OPEN, SNARE, Note
from models.training.sing import FRAME_S, vocoder
from models.training.synth import RATE, Audio

Line = NDArray[np.float64]

BEAT = 60 / 96  # s
BARS = 11  # one to begin, eight to sing, two to end: 27.5 s
VOICE = ("-v", "en-us+f2", "-s", "120", "-p", "45")
LYRICS = (  # two bars each: words of one syllable, and a MIDI pitch for each
    ("down the hill the stream runs on", (64, 64, 69, 67, 69, 71, 72)),
    ("soon the night and rain are gone", (72, 71, 69, 67, 69, 67, 64)),
    ("all the sounds that flow as one", (64, 64, 69, 67, 69, 71, 74)),
    ("part like rays of one bright sun", (76, 74, 72, 71, 72, 71, 69)),
)
RHYTHM = ((0.0, 1.0), (1.0, 0.5), (1.5, 1.5), (3.0, 0.5), (3.5, 1.0), (4.5, 0.5), (5.0, 2.25))  # beats: start, length
CHORDS = ((57, 60, 64), (53, 57, 60), (55, 60, 64), (55, 59, 62))  # A minor, F, C, G
ROOTS = (33, 29, 36, 31)


@dataclass(frozen=True)
class Syllable:
    """WORLD parameters, a frame of 5 ms each: spectral envelope, aperiodicity `[F, bins]`, and where the vowel lies."""

    shape: Line
    breath: Line
    vowel: slice


def say(text: str, voice: Sequence[str] = VOICE) -> tuple[Line, int]:
    """`[T]` as espeak-ng speaks it, and its rate.

    Raises:
        FileNotFoundError: espeak-ng is not on this machine.
    """
    with TemporaryDirectory() as folder:
        out = Path(folder) / "said.wav"
        subprocess.run(["espeak-ng", *voice, "-w", str(out), text], check=True, capture_output=True)
        pcm, rate = soundfile.read(out, dtype="float64")
    loud = np.flatnonzero(np.abs(pcm) > 0.003)
    return pcm[loud[0] : loud[-1] + 1], rate


def syllable(word: str) -> tuple[Syllable, int]:
    """One word taken apart, and the rate of its spectra."""
    pcm, rate = say(word)
    world = vocoder()
    coarse, times = world.dio(pcm, rate)
    pitch = world.stonemask(pcm, coarse, times, rate)
    shape, breath = world.cheaptrick(pcm, pitch, times, rate), world.d4c(pcm, pitch, times, rate)
    power = shape.sum(1) * (pitch > 0)
    strong = np.flatnonzero(power > 0.15 * power.max())
    return Syllable(shape, breath, slice(int(strong[0]), int(strong[-1]) + 1)), rate


def stretched(one: Syllable, frames: int) -> tuple[Line, int]:
    """Which frames to use, so that onset and coda keep their pace and the vowel lasts: indices, and how many come before it."""
    last = len(one.shape) - 1
    head, tail = np.arange(one.vowel.start), np.arange(one.vowel.stop, last + 1)
    tail = tail[: max(0, frames // 3)]
    vowel = np.linspace(one.vowel.start, one.vowel.stop - 1, max(2, frames - len(tail)))
    return np.concatenate([head, vowel, tail]), len(head)


def sung(seconds: float) -> Audio:
    """`[N]` at `RATE`: the lyrics from the second bar on."""
    words = {word for text, _ in LYRICS for word in text.split()}
    known = {word: syllable(word) for word in sorted(words)}
    rate = next(iter(known.values()))[1]
    bins = next(iter(known.values()))[0].shape.shape[1]
    frames = int(seconds / FRAME_S)
    shape, breath, tone = np.full((frames, bins), 1e-12), np.ones((frames, bins)), np.zeros(frames)
    for line in range(len(LYRICS)):
        text, pitches = LYRICS[line % len(LYRICS)]
        for word, pitch, (start, length) in zip(text.split(), pitches, RHYTHM, strict=True):
            first = round((4 + 8 * line + start) * BEAT / FRAME_S)
            count = round(length * BEAT * 0.96 / FRAME_S)
            _write(known[word][0], first, count, pitch, shape, breath, tone)
    glide = np.hanning(13) / np.hanning(13).sum()
    voiced = tone > 0
    held = np.interp(np.arange(frames), np.flatnonzero(voiced), np.log2(tone[voiced]))
    tone = np.where(voiced, 2 ** np.convolve(np.pad(held, 6, mode="edge"), glide, mode="valid"), 0.0)
    pcm = vocoder().synthesize(tone, shape, breath, rate)
    return np.asarray(soxr.resample(pcm, rate, RATE), np.float32)


def _write(one: Syllable, first: int, count: int, pitch: int, shape: Line, breath: Line, tone: Line) -> None:
    at, before = stretched(one, count)
    begin = max(0, first - before)
    end = min(begin + len(at), len(tone))
    at = at[: end - begin]
    low = np.floor(at).astype(int)
    high, share = np.minimum(low + 1, len(one.shape) - 1), (at - low)[:, None]
    fade = np.minimum(1, (len(at) - np.arange(len(at))) / 8)[:, None]
    shape[begin:end] = (one.shape[low] ** (1 - share) * one.shape[high] ** share) * fade**2 + 1e-12
    breath[begin:end] = one.breath[low]
    t = np.arange(end - begin - before) * FRAME_S
    vibrato = 0.3 * np.sin(2 * np.pi * 5.4 * t) * np.clip((t - 0.25) / 0.35, 0, 1)
    scoop = -0.6 * np.exp(-t / 0.04)
    tone[begin:end] = 440 * 2 ** ((pitch - 69) / 12)
    tone[begin + before : end] *= 2 ** ((vibrato + scoop) / 12)


def drums() -> list[Note]:
    notes = [Note(0, 1, CRASH, 70)]
    for bar in range(BARS - 1):
        beats = [(0, KICK, 112), (1, SNARE, 104), (2, KICK, 104), (2.5, KICK, 92), (3, SNARE, 108)]
        if bar % 4 == 3:
            beats += [(3.5, SNARE, 84), (3.75, SNARE, 92)]
        beats += [(half / 2, OPEN if half == 7 and bar % 2 else CLOSED, 78 if half % 2 else 92) for half in range(8)]
        notes += [Note((4 * bar + beat) * BEAT, 0.2, drum, velocity) for beat, drum, velocity in beats]
    return [*notes, Note(4 * (BARS - 1) * BEAT, 1, CRASH, 84), Note(4 * (BARS - 1) * BEAT, 0.2, KICK, 110)]


def bass() -> list[Note]:
    notes = []
    for bar in range(BARS - 1):
        root = ROOTS[bar % 4]
        for beat, step, length in ((0, 0, 1.4), (1.5, 0, 0.45), (2, 0, 0.9), (3, 7, 0.45), (3.5, 12, 0.45)):
            notes.append(Note((4 * bar + beat) * BEAT, length * BEAT, root + step, 100))
    return [*notes, Note(4 * (BARS - 1) * BEAT, 3 * BEAT, ROOTS[0], 100)]


def stabs() -> list[Note]:
    """Chords off the beat, short, so that the singer has room."""
    notes = []
    for bar in range(BARS - 1):
        for beat in (1.5, 2.5, 3.5) if bar % 2 else (1.5, 3.5):
            notes += [Note((4 * bar + beat) * BEAT, 0.4 * BEAT, pitch, 90) for pitch in CHORDS[bar % 4]]
    return [*notes, *(Note(4 * (BARS - 1) * BEAT, 3 * BEAT, pitch, 84) for pitch in CHORDS[0])]


def wide(left: Audio, right: Audio) -> Audio:
    """`[2, N]`: one instrument on each side."""
    length = min(left.shape[1], right.shape[1])
    return np.stack([left.mean(0)[:length], right.mean(0)[:length]])


def hall(pcm: Audio, seconds: float = 1.1, share: float = 0.1) -> Audio:
    """`[N]` to `[2, N]` in a room: two tails of noise that dies away, without its lows."""
    rng = np.random.default_rng(3)
    t = np.arange(int(seconds * RATE)) / RATE
    tail = rng.standard_normal((2, t.size)) * np.exp(-6.9 * t / seconds) * (t > 0.012)
    tail = sosfilt(butter(2, (250, 6000), "bandpass", fs=RATE, output="sos"), tail)
    tail *= share / np.sqrt((tail**2).sum(1, keepdims=True))
    wet = np.stack([fftconvolve(pcm, side)[: pcm.size] for side in tail])
    return np.asarray(pcm + wet, np.float32)


def stems() -> dict[str, Audio]:
    """By name, `[2, N]` each at `RATE`; their sum is the song, and its peak is -1 dB."""
    seconds = BARS * 4 * BEAT
    length = int(seconds * RATE)
    voice = sosfilt(butter(2, 120, "highpass", fs=RATE, output="sos"), np.tanh(3 * _level(sung(seconds))) / 3)
    parts = {
        "vocals": (hall(np.asarray(voice, np.float32)), -15.0),
        "drums": (fluidsynth(drums(), 25, drums=True), -17.0),
        "bass": (fluidsynth(bass(), 33, drums=False, wet=False), -18.0),
        "other": (wide(fluidsynth(stabs(), 48, drums=False), fluidsynth(stabs(), 4, drums=False)), -16.5),
    }
    out = {name: _fitted(pcm, length, level) for name, (pcm, level) in parts.items()}
    peak = float(np.abs(sum(out.values())).max())
    return {name: pcm * np.float32(10 ** (-1 / 20) / peak) for name, pcm in out.items()}


def _level(pcm: Audio) -> Audio:
    """Peaks at 0.25 of full scale."""
    return pcm * np.float32(0.25 / np.abs(pcm).max())


def _fitted(pcm: Audio, length: int, level: float) -> Audio:
    """Cut or filled to `length`, its loud parts at `level` dB, with an end that dies away."""
    pcm = np.pad(pcm[:, :length], ((0, 0), (0, max(0, length - pcm.shape[1]))))
    loud = np.sqrt((pcm[:, np.abs(pcm).max(0) > 0.02 * np.abs(pcm).max()] ** 2).mean())
    fade = np.clip((length - np.arange(length)) / (1.5 * RATE), 0, 1)
    return np.asarray(pcm * fade * 10 ** (level / 20) / loud, np.float32)

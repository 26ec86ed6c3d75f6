"""Sound out of nothing: electronic drums, basses and pads, as dance music has them.

A kick is a sine that falls from some hundred to some forty Hz; a bass note keeps its pitch. Both may be as low, as short
and as loud as the other, and at the same time: that difference is what a separator has to learn here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt

from models.training import score
from models.training.mixing import decibels
from models.training.score import Note

RATE = 44100
Audio = NDArray[np.float32]
Sound = Callable[[Note], Audio]


def envelope(length: int, attack: float, release: float, decay: float) -> Audio:
    """`[length]`: linear attack and release (seconds), exponential decay (seconds to 1/e)."""
    t = np.arange(length) / RATE
    shape = np.minimum(1, t / attack) * np.minimum(1, (length / RATE - t) / release) * np.exp(-t / decay)
    return np.asarray(shape, np.float32)


def lay(notes: Sequence[Note], sound: Sound) -> Audio:
    """Sum the sound of each note, `[2, n]`, at its place."""
    out = np.zeros((2, int((max(n.start for n in notes) + 6) * RATE)), np.float32)
    for note in notes:
        pcm, at = sound(note), int(note.start * RATE)
        pcm = pcm[:, : out.shape[1] - at]
        out[:, at : at + pcm.shape[1]] += pcm * (note.velocity / 127)
    return out


def kick(rng: Generator) -> Audio:
    """One electronic kick, `[2, n]`: pitch and level fall exponentially, a click, often driven into a curve."""
    low, high = rng.uniform(36, 62), rng.uniform(120, 500)
    fall, decay = rng.uniform(0.008, 0.06), float(rng.choice((0.08, 0.15, 0.25, 0.4, 0.7)) * rng.uniform(0.8, 1.25))
    t = np.arange(int(RATE * min(1.6, 4 * decay))) / RATE
    phase = 2 * np.pi * (low * t + (high - low) * fall * (1 - np.exp(-t / fall)))
    body = np.sin(phase) * np.exp(-t / decay)
    if rng.random() < 0.5:  # held for a while before it falls, as a compressed one
        body = np.sin(phase) * np.exp(-np.maximum(0, t - decay) / (0.3 * decay))
    click = rng.standard_normal(len(t)) * np.exp(-t / rng.uniform(0.001, 0.006)) * decibels(rng.uniform(-24, -6))
    drive = decibels(rng.uniform(0, 18))
    pcm = np.tanh((body + click) * drive) / np.tanh(drive)
    pcm *= np.minimum(1, (len(t) - np.arange(len(t))) / 400)
    return np.repeat(pcm[None].astype(np.float32), 2, axis=0)


def snap(rng: Generator) -> Audio:
    """One snare or clap, `[2, n]`: band-passed noise, one to four bursts, with or without a tone."""
    t = np.arange(int(0.5 * RATE)) / RATE
    noise = rng.standard_normal((2, len(t))) * rng.uniform(0.2, 1) + rng.standard_normal(len(t))
    noise = sosfilt(
        butter(2, (rng.uniform(300, 1500), rng.uniform(5000, 16000)), "bandpass", fs=RATE, output="sos"), noise
    )
    decay, bursts = rng.uniform(0.03, 0.18), int(rng.choice((1, 1, 3, 4)))
    shape = sum(np.exp(-np.abs(t - 0.011 * k) / 0.004) for k in range(bursts - 1)) + (
        t >= 0.011 * (bursts - 1)
    ) * np.exp(-(t - 0.011 * (bursts - 1)) / decay)
    tone = np.sin(2 * np.pi * rng.uniform(150, 260) * t) * np.exp(-t / 0.07) * rng.uniform(0, 1) * (bursts == 1)
    pcm = noise / np.abs(noise).max() * shape + tone
    return np.asarray(pcm * 0.8 / np.abs(pcm).max(), np.float32)


def hat(rng: Generator, length: float) -> Audio:
    """One hi-hat, `[2, n]`: high-passed noise or clashing squares, that dies away in `length` seconds."""
    t = np.arange(int(2.5 * length * RATE)) / RATE
    noise = rng.standard_normal((2, len(t)))
    if rng.random() < 0.4:
        noise = noise * 0.3 + sum(np.sign(np.sin(2 * np.pi * f * t)) for f in rng.uniform(3000, 9000, 6))
    pcm = sosfilt(butter(2, rng.uniform(5000, 9000), "highpass", fs=RATE, output="sos"), noise) * np.exp(-t / length)
    return np.asarray(pcm * 0.4 / np.abs(pcm).max(), np.float32)


def machine(rng: Generator) -> Sound:
    """A drum machine: one synthesised sound for each General MIDI drum."""
    sounds = {
        score.KICK: kick(rng),
        score.CLOSED: hat(rng, 0.03),
        score.SHAKER: hat(rng, 0.05),
        score.OPEN: hat(rng, 0.2),
        score.RIDE: hat(rng, 0.3),
        score.CRASH: hat(rng, 0.8),
    }
    back = snap(rng)
    return lambda note: sounds.get(note.pitch, back)


def oscillator(rng: Generator, kind: str, pitch: float, length: int) -> NDArray[np.float64]:
    """A wave of `pitch` Hz, `[length]`: sine, fm, pulse, saw, or two saws out of tune."""
    phase = np.arange(length) * pitch / RATE
    if kind == "sine":
        return np.asarray(np.sin(2 * np.pi * phase))
    if kind == "fm":
        return np.asarray(
            np.sin(2 * np.pi * phase + 2 * np.exp(-np.arange(length) / RATE / 0.15) * np.sin(4 * np.pi * phase))
        )
    if kind == "pulse":
        return np.asarray(np.where(phase % 1 < 0.3, 1.0, -1.0))
    saws = [(phase * (1 + cents) + shift) % 1 * 2 - 1 for cents, shift in ((0, 0), (0.006, rng.random()))]
    return np.asarray(saws[0] if kind == "saw" else (saws[0] + saws[1]) / 2)


def synth_bass(rng: Generator) -> Sound:
    """A bass of one oscillator and a filter that closes with each note; fixed for the part; the same on both sides."""
    kind = str(rng.choice(("sine", "fm", "pulse", "saw", "two")))
    attack, decay = float(rng.choice((0.002, 0.005, 0.02))), float(rng.choice((0.12, 0.3, 1.0, 8.0)))
    cutoff, opens, drive = rng.uniform(120, 900), rng.uniform(0, 1500), decibels(rng.uniform(-6, 9))

    def sound(note: Note) -> Audio:
        length = int((note.length + 0.05) * RATE)
        pcm = oscillator(rng, kind, 440 * 2 ** ((note.pitch - 69) / 12), length)
        if kind not in ("sine", "fm"):
            shut, open_ = (sosfilt(butter(2, f, fs=RATE, output="sos"), pcm) for f in (cutoff, cutoff + opens))
            share = np.exp(-np.arange(length) / RATE / 0.12)
            pcm = shut + (open_ - shut) * share
        pcm = np.tanh(pcm * drive) * envelope(length, attack, 0.03, decay)
        return np.repeat(pcm[None].astype(np.float32), 2, axis=0)

    return sound


def growl(rng: Generator) -> Sound:
    """A bass whose timbre moves by itself: saws out of tune or a modulated sine, driven, through a filter that sways, over a
    plain sine as low as the note; what is above it may be wide. Fixed for the part."""
    saws, ratio = int(rng.integers(0, 4)), float(rng.choice((0.5, 1.0, 2.0, 3.0)))
    cents, index = rng.uniform(0.002, 0.025), rng.uniform(0.5, 5)
    sway, low, high = rng.uniform(0.2, 9), rng.uniform(120, 500), rng.uniform(800, 7000)
    drive, sub, width = decibels(rng.uniform(0, 20)), decibels(rng.uniform(-12, 6)), rng.uniform(0, 0.6) ** 2
    attack, decay = float(rng.choice((0.002, 0.01, 0.05))), float(rng.choice((0.3, 1.5, 8.0)))
    shut, wide = (butter(2, f, fs=RATE, output="sos") for f in (low, high))

    def sound(note: Note) -> Audio:
        length = int((note.length + 0.05) * RATE)
        t, pitch = np.arange(length) / RATE, 440 * 2 ** ((note.pitch - 69) / 12)
        turn = 0.5 - 0.5 * np.cos(2 * np.pi * sway * (t + note.start))
        sides = []
        for side in (-1, 1):
            if saws:
                phases = [t * pitch * (1 + cents * (k + 0.3 * side * width)) + 0.37 * k for k in range(saws + 1)]
                pcm = sum(phase % 1 * 2 - 1 for phase in phases) / (saws + 1)
            else:
                bent = index * (0.2 + turn) * np.sin(2 * np.pi * ratio * pitch * t + side * width)
                pcm = np.sin(2 * np.pi * pitch * t + bent)
            pcm = np.tanh(np.asarray(pcm) * drive)
            sides.append((1 - turn) * sosfilt(shut, pcm) + turn * sosfilt(wide, pcm))
        pcm = np.stack(sides) + sub * np.sin(2 * np.pi * pitch * t)
        return np.asarray(pcm * envelope(length, attack, 0.03, decay), np.float32)

    return sound


def struck(rng: Generator) -> Sound:
    """A bass that begins like a kick and stays on its note, driven: the "808" of hip-hop. Fixed for the part."""
    above, fall, octave = rng.uniform(2, 16), rng.uniform(0.008, 0.07), int(rng.integers(0, 2))
    drive, lean = decibels(rng.uniform(0, 20)), rng.uniform(0, 0.5)
    decay, click = float(rng.choice((0.3, 1.0, 8.0))), decibels(rng.uniform(-36, -12))
    dark = butter(2, rng.uniform(300, 6000), fs=RATE, output="sos")

    def sound(note: Note) -> Audio:
        length = int((note.length + 0.05) * RATE)
        t, pitch = np.arange(length) / RATE, 440 * 2 ** ((note.pitch - 12 * octave - 69) / 12)
        phase = 2 * np.pi * pitch * (t + above * fall * (1 - np.exp(-t / fall)))
        pcm = sosfilt(dark, np.tanh((np.sin(phase) + lean) * drive) - np.tanh(lean * drive))
        pcm = pcm + click * rng.standard_normal(length) * np.exp(-t / 0.003)
        return np.repeat(np.asarray(pcm * envelope(length, 0.001, 0.03, decay), np.float32)[None], 2, axis=0)

    return sound


def stack(rng: Generator, bright: float) -> Sound:
    """Seven saws out of tune, spread over the sides, through a low-pass filter: pads and stabs."""
    cents, pans = rng.uniform(-0.012, 0.012, 7), rng.uniform(0, 1, 7)
    attack, decay = float(rng.choice((0.003, 0.02, 0.4))), float(rng.choice((0.2, 0.6, 8.0)))
    filt = butter(2, bright, fs=RATE, output="sos")

    def sound(note: Note) -> Audio:
        length = int((note.length + 0.1) * RATE)
        t = np.arange(length) * (440 * 2 ** ((note.pitch - 69) / 12) / RATE)
        pcm = np.zeros((2, length))
        for shift, pan in zip(cents, pans, strict=True):
            pcm += ((t * (1 + shift) + 10 * shift * 7) % 1 * 2 - 1) * np.array([[1 - pan], [pan]])
        return np.asarray(sosfilt(filt, pcm) * envelope(length, attack, 0.08, decay) * 0.2, np.float32)

    return sound


def riser(rng: Generator, seconds: float) -> Audio:
    """Noise whose band rises or falls by octaves, `[2, n]`: the effect between two parts of a track."""
    length = int(seconds * RATE)
    noise, t = rng.standard_normal((2, length)), np.arange(length) / length
    bands = [sosfilt(butter(1, (f, 2 * f), "bandpass", fs=RATE, output="sos"), noise) for f in (300, 900, 2700, 8100)]
    at = (t if rng.random() < 0.7 else 1 - t) * 3
    pcm = sum(np.maximum(0, 1 - np.abs(at - k)) * band for k, band in enumerate(bands)) * t
    return np.asarray(pcm * 0.4 / np.abs(pcm).max(), np.float32)

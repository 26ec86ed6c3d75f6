"""Random conversations out of a bank of speakers: a new one every time, from a seeded generator.

A segment has one to three voices, and at most two of them at once. Everything linear that happens to a voice on its way
(its own equaliser, a room, the band of a telephone) is one product of spectra, so that a voice costs one transform each way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models.training.data import Clip, SpeechBank, floats
from models.training.mixing import coloured_noise, decibels, resampled, rms

Audio = NDArray[np.float32]
Spectrum = NDArray[np.complex64]
VOICES = 3


@dataclass(frozen=True)
class Shares:
    """How often what happens, 0 to 1. What `pair`, `partial` and `three` leave is a lone voice.

    Attributes:
        pair: two voices that overlap by half to all of the segment.
        partial: two voices that overlap by less than half, or follow each other.
        three: three voices, never more than two at once.
        room: a room response for each voice.
        noise: noise 12 to 35 dB below the voices, which belongs to neither output.
        telephone: 300 to 3400 Hz and eight bits of mu-law.
        clipped: a microphone that is driven too hard.
    """

    pair: float = 0.62
    partial: float = 0.13
    three: float = 0.10
    room: float = 0.25
    noise: float = 0.30
    telephone: float = 0.08
    clipped: float = 0.03


def spans(rng: Generator, shares: Shares, length: int) -> list[tuple[int, int]]:
    """Start and end of each voice in samples: one, two or three, never more than two at once."""
    kind = rng.random()
    if kind < shares.pair:
        if rng.random() < 0.5:
            return [(0, length), (0, length)]
        short = int(length * rng.uniform(0.5, 1))
        return [(0, length), (0, short) if rng.random() < 0.5 else (length - short, length)]
    if kind < shares.pair + shares.partial:
        meet = int(length * rng.uniform(0.25, 0.75))
        reach = int(length * rng.uniform(-0.1, 0.25))  # below zero: a gap
        return [(0, min(length, meet + max(0, reach))), (min(meet - min(0, reach), length - 1), length)]
    if kind < shares.pair + shares.partial + shares.three:
        left, right = sorted(rng.uniform(0.2, 0.8, 2))
        if rng.random() < 0.5:  # one speaks throughout, two take turns against it
            return [(0, length), (0, int(left * length)), (int(max(right, left + 0.02) * length), length)]
        overlap = int(min(rng.uniform(0, 0.15), right - left) * length)  # a chain of three
        middle = min(int(right * length) + overlap, length)
        return [(0, int(left * length) + overlap), (int(left * length), middle), (max(int(right * length), 1), length)]
    return [(0, length)]


def equaliser(rng: Generator, bins: int, rate: int) -> Audio:
    """Gain of each bin: a tilt of up to 3 dB an octave about 1 kHz, and two broad bumps of up to 6 dB, `[bins]`."""
    octaves = np.log2(np.maximum(np.arange(bins, dtype=np.float32) * (rate / 2 / (bins - 1)), 60) / 1000)
    gain = rng.uniform(-3, 3) * rng.uniform(0, 1) * np.clip(octaves, -3, 3)
    for _ in range(2):
        gain = gain + rng.uniform(-6, 6) * np.exp(-0.5 * ((octaves - rng.uniform(-3, 3)) / 0.7) ** 2)
    return np.asarray(10 ** (gain / 20), np.float32)


def made_room(rng: Generator, rate: int) -> Audio:
    """A room response: direct sound, then noise that decays by 60 dB in 0.1 to 0.5 s; unit energy, `[n]`."""
    decay = rng.uniform(0.1, 0.5)
    t = np.arange(int(rate * min(decay, 0.35)), dtype=np.float32) / rate
    tail = rng.standard_normal(len(t)).astype(np.float32) * np.exp(-6.9 * t / decay)
    tail[: int(rate * rng.uniform(0.001, 0.008))] = 0
    response = tail * decibels(rng.uniform(-14, 0)) / max(1e-6, float(np.sqrt(np.square(tail).sum())))
    response[0] += 1
    return np.asarray(response / np.sqrt(np.square(response).sum()), np.float32)


def mu_law(pcm: Audio, peak: float) -> Audio:
    """Eight bits of mu-law (ITU-T G.711's curve) at this full scale."""
    scaled = np.clip(pcm / peak, -1, 1)
    coded = np.round(np.sign(scaled) * np.log1p(255 * np.abs(scaled)) / np.log(256) * 127) / 127
    return np.asarray(np.sign(coded) * (np.exp(np.abs(coded) * np.log(256)) - 1) / 255 * peak, np.float32)


class Speakers:
    """Recordings by speaker; one who left much material is drawn more often, but less than in proportion."""

    def __init__(self, bank: SpeechBank, clips: Sequence[Clip], rate: int = 16000) -> None:
        self.bank, self.rate = bank, rate
        groups: dict[str, list[Clip]] = defaultdict(list)
        for clip in clips:
            groups[clip.group].append(clip)
        if len(groups) < 2:
            raise ValueError(f"got {len(groups)} speakers, expected at least 2")
        self.names, self.groups = list(groups), list(groups.values())
        weight = np.array([sum(clip.length for clip in group) for group in self.groups]) ** 0.5
        self.weight = weight / weight.sum()

    def draw(self, rng: Generator, count: int) -> list[int]:
        """Different speakers, by number."""
        return [int(n) for n in rng.choice(len(self.groups), count, replace=False, p=self.weight)]

    def say(self, rng: Generator, speaker: int, length: int, speed: float = 1.0) -> Audio:
        """`[length]` of one speaker at unit RMS, this much faster (pitch too), padded with silence."""
        clips = self.groups[speaker]
        clip = clips[rng.integers(len(clips))]
        wanted = min(clip.length, int(length * speed) + 4)
        start = clip.start + int(rng.integers(clip.length - wanted + 1))
        pcm = floats(self.bank.pcm[start : start + wanted])
        heard = min(length, int((wanted - 4) / speed))
        pcm = resampled(pcm, speed, heard) if speed != 1 else pcm[:heard]
        return np.asarray(np.pad(pcm / max(1e-3, rms(pcm)), (0, length - heard)), np.float32)


class ConversationMixer:
    """Segments of `seconds` with one to three voices, rooms, noise and telephones.

    Targets keep what happened to a voice alone (room, equaliser, band) and leave out noise, quantisation and clipping.
    """

    def __init__(
        self, bank: SpeechBank, clips: Sequence[Clip], seconds: float, shares: Shares | None = None, rate: int = 16000
    ) -> None:
        self.speakers = Speakers(bank, clips, rate)
        self.rooms = bank.rooms
        self.length, self.rate, self.shares = int(seconds * rate), rate, shares or Shares()
        self.size = 1 << (self.length + int(0.35 * rate) - 1).bit_length()

    def path(self, rng: Generator, telephone: bool, room: bool) -> Spectrum:
        """What the way to the microphone does to the spectrum of a voice, `[size/2 + 1]`."""
        bins = self.size // 2 + 1
        way: NDArray[np.complex64] = equaliser(rng, bins, self.rate).astype(np.complex64)
        if room:
            real = self.rooms and rng.random() < 0.4
            response = self.rooms[rng.integers(len(self.rooms))] if real else made_room(rng, self.rate)
            way = way * np.fft.rfft(response, self.size).astype(np.complex64)
        if telephone:
            hertz = np.arange(bins, dtype=np.float32) * (self.rate / self.size)
            way = way / np.sqrt((1 + (hertz / 3400) ** 24) * (1 + (300 / np.maximum(hertz, 1)) ** 8))
        return np.asarray(way, np.complex64)

    def one(self, rng: Generator) -> tuple[Audio, Audio]:
        """One mixture `[T]` and its voices `[3, T]`, silent where there are fewer."""
        shares = self.shares
        parts = spans(rng, shares, self.length)
        telephone, room = rng.random() < shares.telephone, rng.random() < shares.room
        voices = np.zeros((VOICES, self.length), np.float32)
        for row, (speaker, (start, end)) in enumerate(zip(self.speakers.draw(rng, len(parts)), parts, strict=True)):
            said = self.speakers.say(rng, speaker, end - start, float(rng.uniform(0.84, 1.19)))
            placed = np.pad(said, (start, self.length - end))
            way = self.path(rng, telephone, room)
            pcm = np.fft.irfft(np.fft.rfft(placed, self.size) * way, self.size)[: self.length].astype(np.float32)
            spread = 5 if rng.random() < 0.8 else 10
            loud = decibels(rng.uniform(-spread, spread) / 2) / max(
                1e-3, rms(pcm) * (self.length / (end - start)) ** 0.5
            )
            voices[row] = pcm * loud
        mixture = voices.sum(0)
        if rng.random() < shares.noise:
            mixture = mixture + coloured_noise(rng, self.length) * rms(mixture) * decibels(rng.uniform(-35, -12))
        peak = max(1e-3, float(np.abs(mixture).max()))
        if telephone:
            mixture = mu_law(mixture, peak)
        if rng.random() < shares.clipped:
            mixture = np.clip(mixture, -peak * 0.4, peak * 0.4)
        level = np.float32(decibels(rng.uniform(-36, -16)) / max(1e-3, rms(voices.sum(0))))
        return mixture * level, voices * level

    def batch(self, rng: Generator, size: int) -> tuple[Audio, Audio]:
        """Mixtures `[B, 1, T]` and voices `[B, 3, 1, T]`."""
        mixtures, voices = zip(*(self.one(rng) for _ in range(size)), strict=True)
        return np.stack(mixtures)[:, None].astype(np.float32), np.stack(voices)[:, :, None]

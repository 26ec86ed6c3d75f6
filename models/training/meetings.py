"""Simulated meetings: one to four people who take turns, interrupt, and agree in a word, with who speaks when.

Turns follow a simple model of conversations (the ideas are those of H. Yamashita et al., "Improving the naturalness of
simulated conversations for end-to-end neural diarization", 2022, arXiv:2204.11232): the next speaker comes after a pause
or into the end of the turn, and listeners put short words into long turns. Each person keeps a seat for the whole
meeting: the same equaliser, room response and level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models.training.conversations import Audio, Speakers, equaliser, made_room, mu_law
from models.training.data import Clip, SpeechBank, floats
from models.training.mixing import coloured_noise, decibels, resampled, rms

FRAME = 160  # samples of 10 ms at 16 kHz
DELAY = 512  # samples by which `response` is late, of 1025 bins
SPEEDS = (0.88, 0.94, 1.0, 1.06, 1.13)  # a voice at another speed counts as another person
Flags = NDArray[np.bool_]
Gain = NDArray[np.floating[Any]]


def speaking(pcm: Audio, gap_s: float = 0.3) -> Flags:
    """Which frames of 10 ms of a clean recording are speech, `[T] -> [T // 160]`.

    Frames above -32 dB of the loud ones (95th percentile); pauses shorter than `gap_s` belong to the speech around them.
    """
    level = np.square(pcm[: len(pcm) // FRAME * FRAME].reshape(-1, FRAME)).mean(1)
    active = level > np.percentile(level, 95) * 10**-3.2
    edges = np.flatnonzero(np.diff(np.concatenate(([0], active.astype(np.int8), [0]))))
    for end, start in zip(edges[1:-1:2], edges[2::2], strict=False):
        if start - end < gap_s * 100:
            active[end:start] = True
    for start, end in zip(edges[::2], edges[1::2], strict=False):
        lonely = not active[max(0, start - 1)] and not active[min(end, len(active) - 1)]
        if end - start < 5 and lonely:
            active[start:end] = False
    return active


def through(pcm: Audio, responses: Sequence[Audio], size: int = 1 << 14) -> Audio:
    """`[T]` convolved with all of these, which together are shorter than `size`, `[T + sum(n - 1)]`: overlap and add."""
    extra = sum(len(response) - 1 for response in responses)
    block = size - extra
    count = -(-(len(pcm) + extra) // block)
    blocks = np.pad(pcm, (0, count * block - len(pcm))).reshape(count, block)
    sounding = blocks.any(1)  # who listens for most of a meeting costs little
    spectra = np.fft.rfft(blocks[sounding], size)
    for response in responses:
        spectra *= np.fft.rfft(response, size)
    heard = np.zeros((count, size), spectra.real.dtype)
    heard[sounding] = np.fft.irfft(spectra, size)
    out = np.ascontiguousarray(heard[:, :block])
    out[1:, :extra] += heard[:-1, block:]
    return np.asarray(out.reshape(-1)[: len(pcm) + extra], np.float32)


@dataclass(frozen=True)
class Meeting:
    """What a microphone hears, and what was so.

    Attributes:
        pcm: `[T]` at 16 kHz.
        active: speech of each person by frames of 10 ms, `[T // 160, P]`, in the order of their first words.
        people: a number for each of them: (the speaker's, times the number of formants, plus theirs) times the number of
            speeds, plus the speed's.
    """

    pcm: Audio
    active: Flags
    people: tuple[int, ...]


@dataclass(frozen=True)
class Turn:
    person: int
    start: float
    length: float


def turns(rng: Generator, people: int, seconds: float) -> list[Turn]:
    """Who speaks from when for how long, in seconds, until the end."""
    pause, crossing = float(rng.choice((0.2, 0.5, 1.0, 2.5))), float(rng.choice((0.1, 0.25, 0.4, 0.6)))
    talk = rng.dirichlet(np.full(people, 3.0))  # some speak more
    out: list[Turn] = []
    now, last = float(rng.exponential(0.4)), -1
    while now < seconds:
        share = talk.copy()
        if last >= 0 and people > 1:
            share[last] *= 0.2
        who = int(rng.choice(people, p=share / share.sum()))
        length = float(np.clip(rng.lognormal(0.9, 0.7), 0.5, 12))
        out.append(Turn(who, now, length))
        if people > 1 and length > 2.5 and rng.random() < 0.35:
            listener = int(rng.choice([p for p in range(people) if p != who]))
            out.append(Turn(listener, now + float(rng.uniform(0.5, length - 1)), float(rng.uniform(0.3, 1.2))))
        into = people > 1 and rng.random() < crossing
        now += length + (-float(rng.uniform(0, min(2.5, 0.7 * length))) if into else float(rng.exponential(pause)))
        last = who
    return out


def waits(rng: Generator, seconds: float) -> list[tuple[float, float]]:
    """From what moment nobody speaks, and how long, in seconds: often before the first word, at times later."""
    found = [(0.0, float(rng.uniform(0, min(9.0, 0.5 * seconds))))] if rng.random() < 0.35 else []
    return found + ([(float(rng.uniform(0, seconds)), float(rng.uniform(2, 8)))] if rng.random() < 0.25 else [])


def clicks(rng: Generator, length: int) -> Audio:
    """Short bursts of noise, 1 in 4 s, 25 dB below to 3 dB above speech of unit RMS, `[length]`."""
    out = np.zeros(length, np.float32)
    for at in rng.integers(length, size=rng.poisson(length / 64000)):
        burst = out[at : at + int(16000 * rng.uniform(0.005, 0.08))]
        shape = np.hanning(len(burst)) * rng.standard_normal(len(burst))
        burst += np.asarray(shape * decibels(rng.uniform(-25, 3)), np.float32)
    return out


def narrow(gain: Gain) -> Gain:
    """This gain of bins from 0 to 8 kHz inside the band of a telephone, 300 to 3400 Hz."""
    hertz = np.linspace(0, 8000, len(gain))
    return gain / np.sqrt((1 + (hertz / 3400) ** 24) * (1 + (300 / np.maximum(hertz, 1)) ** 8))


def response(gain: Gain) -> Audio:
    """The impulse response with this gain in bins from 0 to 8 kHz, as long as there are bins, the middle at its middle."""
    taps = 2 * (len(gain) - 1)
    way = np.roll(np.fft.irfft(gain, taps), taps // 2)[taps // 4 : 3 * taps // 4] * np.hanning(taps // 2)
    return np.asarray(way, np.float32)


class MeetingMixer:
    """Meetings of speakers of a bank; each draw is a new one.

    Args:
        bank, clips: recordings, and which of them.
        speeds: a voice at each of these is a person of its own;
        shifted: with each of the bank's formants too.
        lines: as on real lines: nobody speaks at first, something clicks, a telephone hisses and has nothing above
            3.4 kHz, and one side of it is far louder; a voice is up to 3 % slower or faster, anew in each meeting.
    """

    def __init__(
        self,
        bank: SpeechBank,
        clips: Sequence[Clip],
        speeds: Sequence[float] = SPEEDS,
        shifted: bool = False,
        lines: bool = False,
    ) -> None:
        self.speakers, self.bank, self.speeds = Speakers(bank, clips), bank, tuple(speeds)
        self.lines = lines
        self.voices = (bank.pcm, *(bank.shifted if shifted else ()))
        self.flags = {
            clip.start: speaking(floats(bank.pcm[clip.start : clip.start + clip.length]))
            for group in self.speakers.groups
            for clip in group
        }

    @property
    def kinds(self) -> int:
        """How many persons are made of one speaker."""
        return len(self.voices) * len(self.speeds)

    def say(self, rng: Generator, person: int, seconds: float, faster: float = 1.0) -> tuple[Audio, Flags]:
        """One utterance that begins with speech: samples at unit RMS, and its activity; `faster` than this person is."""
        speaker, kind = divmod(person, self.kinds)
        group = self.speakers.groups[speaker]
        recorded, speed = self.voices[kind // len(self.speeds)], self.speeds[kind % len(self.speeds)] * faster
        clip = group[rng.integers(len(group))]
        flags = self.flags[clip.start]
        wanted = min(int(seconds * speed * 100) + 1, len(flags))
        starts = np.flatnonzero(flags[: max(1, len(flags) - wanted + 1)])
        first = int(rng.choice(starts)) if len(starts) else 0
        pcm = floats(recorded[clip.start + first * FRAME : clip.start + (first + wanted) * FRAME])
        told = flags[first : first + wanted]
        length = int(len(pcm) / speed / FRAME) * FRAME
        if speed != 1:
            pcm = resampled(np.pad(pcm, (0, 4)), speed, length)
            told = told[np.minimum((np.arange(length // FRAME) * speed).astype(int), len(told) - 1)]
        pcm, told = pcm[:length].copy(), told[: length // FRAME]
        fade = min(FRAME, length)
        pcm[:fade] *= np.linspace(0, 1, fade, dtype=np.float32)
        pcm[length - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
        return pcm / np.float32(max(1e-3, rms(pcm))), told

    def one(self, rng: Generator, seconds: float, people: int, clean: bool = False) -> Meeting:
        """A meeting of this length with at most so many people; `clean` leaves out noise, rooms and telephones."""
        length = round(seconds * 100) * FRAME
        chosen = [n * self.kinds + int(rng.integers(self.kinds)) for n in self.speakers.draw(rng, people)]
        dry = np.zeros((people, length), np.float32)
        active = np.zeros((length // FRAME, people), bool)
        quiet = waits(rng, seconds) if self.lines and not clean else []
        faster = rng.uniform(0.97, 1.03, people) if self.lines else np.ones(people)
        for turn in turns(rng, people, seconds):
            at = int((turn.start + sum(length for begin, length in quiet if turn.start >= begin)) * 100)
            if at >= len(active) or active[at : at + int(turn.length * 100), turn.person].any():
                continue
            pcm, told = self.say(rng, chosen[turn.person], turn.length, float(faster[turn.person]))
            told = told[: len(active) - at]
            dry[turn.person, at * FRAME : (at + len(told)) * FRAME] += pcm[: len(told) * FRAME]
            active[at : at + len(told), turn.person] |= told
        mixture = self.heard(rng, dry, clean)
        present = np.flatnonzero(active.any(0))
        order = present[np.argsort(active.argmax(0)[present], kind="stable")]
        return Meeting(mixture, active[:, order], tuple(chosen[p] for p in order))

    def heard(self, rng: Generator, dry: Audio, clean: bool) -> Audio:
        """`[P, T]` dry voices to what one microphone hears, `[T]`."""
        length = dry.shape[1]
        reverberant = not clean and rng.random() < 0.5
        telephone = not clean and rng.random() < (0.25 if self.lines else 0.15)
        line = self.lines and telephone
        flat = np.ones(1025, np.float32)
        pcm = np.zeros(length, np.float32)
        for voice in dry:
            gain = equaliser(rng, len(flat), 16000) if not clean else flat
            parts = [response(narrow(gain) if telephone else gain)]
            if reverberant:
                real = self.bank.rooms and rng.random() < 0.4
                parts += [self.bank.rooms[rng.integers(len(self.bank.rooms))] if real else made_room(rng, 16000)]
            spread = decibels(rng.uniform(-5, 5))
            if line:
                spread *= decibels(rng.uniform(-12, 0))
            heard = through(voice, parts)[DELAY : DELAY + length]
            pcm += heard * np.float32(spread)
        loud = rms(pcm)
        if self.lines and not clean and rng.random() < 0.3:
            pcm = pcm + clicks(rng, length) * loud
        if not clean and (line or rng.random() < 0.6):
            pcm = pcm + coloured_noise(rng, length) * loud * decibels(rng.uniform(-50 if line else -40, -12))
        if telephone:
            pcm = mu_law(pcm, max(1e-3, float(np.abs(pcm).max())))
        if line:  # noise and the error of mu-law are not heard above the band either
            pcm = through(pcm, [response(narrow(flat))])[DELAY : DELAY + length]
        return np.asarray(pcm * np.float32(decibels(rng.uniform(-38, -18)) / max(1e-4, rms(pcm))), np.float32)

"""What separated tracks are worth when the true voices are known: swap rate, swaps a minute, DER, SI-SDR.

The swap rate is the share of speech that is on another track than the person's own. Where a person is, is told in blocks of a
quarter of a second: each track is explained by the voices that sound then (least squares), and the person is on the track
that has most of that voice. A person's own track is, of all ways to give everybody one, the same for the whole conversation, the
one with the most of their speech; with fewer tracks than people, people share. So the rate counts a swap for as long as it
lasts, and counts nothing for an order that is merely another one. Where a separator leaves a voice on several tracks, none of
them 6 dB ahead, it is on no track: that is counted as torn, not as swapped.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from clients.bench.speakers_talk import FRAME, RATE, Audio, Flags, speaking

BLOCK = 25  # frames
GATE_DB, LEAK_DB = 25.0, 9.0  # a track is silent this far below the loud frames of all, or below another at the time
LEAD = 2.0  # a person is on a track that has twice the amplitude of any other
SILENT, TORN = -1, -2


@dataclass(frozen=True)
class Score:
    """Of one conversation. Seconds are of speech, each person's own.

    Attributes:
        speech_s, swapped_s, torn_s: in all, on another track than the person's own, and on none.
        swaps: how often somebody was on another track than a block of speech before.
        error_s, scored_s: of DER, collar 0, overlap scored; NaN where there are fewer tracks than people.
        si_sdr: of each person's track while they speak, dB.
        gain: SI-SDR of the track over that of the mixture while others speak too, dB; NaN where that is less than a second.
        own: the track of each person.
    """

    speech_s: float
    swapped_s: float
    torn_s: float
    swaps: int
    error_s: float
    scored_s: float
    si_sdr: tuple[float, ...]
    gain: tuple[float, ...]
    own: tuple[int, ...]

    def figures(self) -> dict[str, object]:
        return asdict(self)


def score(voices: Audio, tracks: Audio) -> Score:
    """Voices `[P, T]` and tracks `[S, T']` at 16 kHz; what a track lacks at its end is silence."""
    length = voices.shape[1] // FRAME * FRAME
    voices = voices[:, :length]
    tracks = np.pad(tracks[:, :length], ((0, 0), (0, max(0, length - tracks.shape[1]))))
    active = np.stack([speaking(voice) for voice in voices])
    place = places(voices, tracks, active)
    seconds = spoken(active)
    own = own_tracks(place, seconds, len(tracks))
    elsewhere = (place >= 0) & (place != np.array(own)[:, None])
    told = heard(tracks)
    errors, scored = diarization_error(told, active, own)
    both = active & (active.sum(0) > 1)
    mixture = voices.sum(0)
    return Score(
        speech_s=float(seconds.sum()),
        swapped_s=float(seconds[elsewhere].sum()),
        torn_s=float(seconds[place == TORN].sum()),
        swaps=sum(int((np.diff(row[row >= 0]) != 0).sum()) for row in place),
        error_s=errors * FRAME / RATE,
        scored_s=scored * FRAME / RATE,
        si_sdr=tuple(of_frames(tracks[track], voices[p], active[p]) for p, track in enumerate(own)),
        gain=tuple(
            of_frames(tracks[track], voices[p], both[p]) - of_frames(mixture, voices[p], both[p])
            for p, track in enumerate(own)
        ),
        own=own,
    )


def spoken(active: Flags) -> NDArray[np.float64]:
    """Seconds of speech in each block, `[P, F] -> [P, F // BLOCK]`."""
    blocks = active.shape[1] // BLOCK
    return np.asarray(active[:, : blocks * BLOCK].reshape(len(active), blocks, BLOCK).sum(2) * (FRAME / RATE))


def places(voices: Audio, tracks: Audio, active: Flags) -> NDArray[np.int64]:
    """The track that each person is on in each block, `[P, blocks]`, or `SILENT`, or `TORN`."""
    size = BLOCK * FRAME
    seconds = spoken(active)
    out = np.full(seconds.shape, SILENT)
    for block in range(seconds.shape[1]):
        speak = np.flatnonzero(seconds[:, block] > 0)
        true = voices[speak, block * size : (block + 1) * size].astype(np.float64)
        told = tracks[:, block * size : (block + 1) * size].astype(np.float64)
        gram = true @ true.T + 1e-9 * np.eye(len(speak))
        share = np.abs(np.linalg.solve(gram, true @ told.T))  # [speakers, tracks]
        ahead = share.max(1, initial=0) >= LEAD * np.partition(share, -2, axis=1)[:, -2]
        out[speak, block] = np.where(ahead, share.argmax(1), TORN)
    return out


def own_tracks(place: NDArray[np.int64], seconds: NDArray[np.float64], tracks: int) -> tuple[int, ...]:
    """The track of each person that has the most of their speech."""
    on = np.array([[float(s[row == t].sum()) for t in range(tracks)] for row, s in zip(place, seconds, strict=True)])
    people = len(on)
    if people > tracks:
        return tuple(int(track) for track in on.argmax(1))
    ways = permutations(range(tracks), people)
    return max(ways, key=lambda way: sum(on[p, track] for p, track in enumerate(way)))


def heard(tracks: Audio) -> Flags:
    """Where each track speaks, `[S, F]`, over 0.2 s: not `GATE_DB` below the loud frames of all nor `LEAK_DB` below another."""
    level = np.square(tracks.reshape(len(tracks), -1, FRAME)).mean(2)
    level = np.stack([np.convolve(row, np.full(21, 1 / 21), "same") for row in level])
    total = level.sum(0)
    loud = np.percentile(total[total > 1e-9], 95) if (total > 1e-9).any() else 1.0
    return np.asarray((level > loud * 10 ** (-GATE_DB / 10)) & (level > level.max(0) * 10 ** (-LEAK_DB / 10)))


def diarization_error(told: Flags, active: Flags, own: tuple[int, ...]) -> tuple[float, float]:
    """Frames missed, false or of another, and frames of speech (NIST RT-09); `[S, F]`, `[P, F]`."""
    if len(set(own)) < len(own):
        return float("nan"), float("nan")
    right = sum(int((told[track] & active[p]).sum()) for p, track in enumerate(own))
    spoken_by, heard_on = active.sum(0), told.sum(0)
    return float(np.maximum(spoken_by, heard_on).sum() - right), float(spoken_by.sum())


def of_frames(track: Audio, voice: Audio, frames: Flags) -> float:
    """SI-SDR in dB over these frames; NaN where there are fewer than a second of them."""
    there = np.repeat(frames, FRAME)
    return si_sdr(track[there], voice[there]) if frames.sum() >= 100 else float("nan")


def si_sdr(estimate: Audio, target: Audio) -> float:
    """Scale-invariant signal-to-distortion ratio (J. Le Roux et al., 2019, arXiv:1811.02508), within 60 dB."""
    estimate, target = estimate.astype(np.float64), target.astype(np.float64)
    wanted = target * (estimate @ target) / (target @ target + 1e-12)
    rest = estimate - wanted
    return float(np.clip(10 * np.log10((wanted @ wanted + 1e-12) / (rest @ rest + 1e-12)), -60, 60))


def summary(scores: list[Score]) -> dict[str, float]:
    """Of several conversations, second by second; SI-SDR is the mean over people."""
    speech = sum(one.speech_s for one in scores)
    known = [one for one in scores if not np.isnan(one.error_s)]
    error, scored = sum(one.error_s for one in known), sum(one.scored_s for one in known)
    return {
        "speech_s": speech,
        "swap_rate": sum(one.swapped_s for one in scores) / speech,
        "torn_rate": sum(one.torn_s for one in scores) / speech,
        "swaps_per_minute": 60 * sum(one.swaps for one in scores) / speech,
        "der": error / scored if scored else float("nan"),
        "si_sdr_db": mean([value for one in scores for value in one.si_sdr]),
        "gain_db": mean([value for one in scores for value in one.gain]),
    }


def mean(values: list[float]) -> float:
    """Of those that are known; NaN of none."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")

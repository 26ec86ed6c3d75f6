"""Who spoke when, by an exported diarizer, on meetings of people it has never heard and on a real conversation.

Simulated meetings are of held-out LibriSpeech speakers (`split.json`), with rooms and noise; the real one is the half minute
of telephone that pyannote.audio ships as its sample, with the reference beside it. Diarization error rate as NIST RT-09
counts it: collar 0, overlap scored, over all meetings together.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from models.diarizer import Diarizer
from models.silero import load as detector
from models.sortformer import load
from models.speech_only import SpeechOnly
from models.training.data import speech_bank
from models.training.diarize import error_rate
from models.training.meetings import FRAME, Flags, MeetingMixer
from models.training.sortformer import SLOTS

Figures = list[dict[str, Any]]
PROFILES = ("1.04s", "0.32s")


def whole(diarizer: Diarizer, pcm: Sequence[NDArray[np.float32]], profile: str) -> list[NDArray[np.float32]]:
    """Probabilities `[T // 160, S]` of recordings `[T]`, streamed together with this profile."""
    states = [diarizer.start(profile) for _ in pcm]
    told, states = diarizer.run(pcm, states)
    return [np.concatenate((t, diarizer.finish(state))) for t, state in zip(told, states, strict=True)]


def smooth(told: NDArray[np.float32], onset: float = 0.5, frames: int = 11) -> Flags:
    """Speech where the majority of `frames` (10 ms each) around is above `onset`: `[T, S] -> [T, S]`."""
    above = np.pad((told > onset).astype(np.int32), ((frames // 2 + 1, frames // 2), (0, 0)), mode="edge")
    total = np.cumsum(above, 0)
    return np.asarray(total[frames:] - total[:-frames] > frames // 2)


def rttm_flags(path: Path, frames: int) -> Flags:
    """Activity by frames of 10 ms of each speaker of an RTTM file, `[frames, P]`."""
    spoken: dict[str, Flags] = {}
    for line in path.read_text().splitlines():
        words = line.split()
        if words and words[0] == "SPEAKER":
            start, length = float(words[3]), float(words[4])
            row = spoken.setdefault(words[7], np.zeros(frames, bool))
            row[round(start * 100) : round((start + length) * 100)] = True
    return np.stack(list(spoken.values()), 1)


def real_conversation() -> tuple[NDArray[np.float32], Flags] | None:
    """pyannote.audio's sample, `[T]` at 16 kHz, and who speaks; None where the package is not installed."""
    found = importlib.util.find_spec("pyannote")
    for place in (found.submodule_search_locations or []) if found else []:
        wav = Path(place) / "audio/sample/sample.wav"
        if wav.is_file():
            pcm, rate = soundfile.read(str(wav), dtype="float32")
            assert rate == 16000
            return pcm, rttm_flags(wav.with_suffix(".rttm"), len(pcm) // FRAME)
    return None


def parts(told: Flags, meant: Flags) -> dict[str, float]:
    """Missed, false and confused speech in percent of the speech, `[T, S]` and `[T, P]`."""
    spoken, heard = meant.sum(1), told.sum(1)
    wrong, total = error_rate(told, meant)
    missed, false = float(np.maximum(0, spoken - heard).sum()), float(np.maximum(0, heard - spoken).sum())
    shares = {"missed": missed, "false": false, "confused": wrong - missed - false}
    return {key: 100 * value / total for key, value in shares.items()}


def diarize_figures(folder: Path, data: Path, cache: Path, meetings: int = 15, seconds: float = 75) -> Figures:
    """A row for each profile and number of people, and for the real conversation."""
    bank, diarizer = speech_bank(data, cache), SpeechOnly(load(folder), detector())
    mixer = MeetingMixer(bank, bank.validation, speeds=(1.0,))
    held = [mixer.one(np.random.default_rng((71, k)), seconds, 2 + k % 3) for k in range(meetings)]
    overlap = sum((m.active.sum(1) > 1).sum() for m in held) / sum(m.active.any(1).sum() for m in held)
    rows: Figures = []
    for profile in PROFILES:
        told = [smooth(t) for t in whole(diarizer, [m.pcm for m in held], profile)]
        for people in (None, 2, 3, 4):
            chosen = [k for k in range(meetings) if people is None or 2 + k % 3 == people]
            rates = [error_rate(told[k], held[k].active) for k in chosen]
            together = (
                np.concatenate([told[k] for k in chosen]),
                np.concatenate(
                    [np.pad(held[k].active, ((0, 0), (0, SLOTS - held[k].active.shape[1]))) for k in chosen]
                ),
            )
            row = {
                "profile": profile,
                "people": people or "2-4",
                "meetings": len(chosen),
                "seconds": seconds,
            }
            rate = 100 * sum(e for e, _ in rates) / sum(s for _, s in rates)
            missed = {k: v for k, v in parts(*together).items() if k != "confused"}
            row |= {"der": rate} | missed | {"confused": rate - sum(missed.values()), "overlap": 100 * float(overlap)}
            rows.append(row)
    real = real_conversation()
    if real is not None:
        for profile in PROFILES:
            (heard,) = [smooth(t) for t in whole(diarizer, [real[0]], profile)]
            wrong, spoken = error_rate(heard, real[1])
            rows.append({"profile": profile, "people": 2, "real": "telephone, 30 s", "der": 100 * wrong / spoken}
                        | parts(heard, real[1]))  # fmt: skip
    return rows

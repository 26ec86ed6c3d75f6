"""Who spoke when, by an exported diarizer, on meetings of people it has never heard and on a real conversation.

Simulated meetings are of held-out LibriSpeech speakers (`split.json`), with rooms and noise; the real one is the half minute
of telephone that pyannote.audio ships as its sample, with the reference beside it. Diarization error rate as NIST RT-09
counts it: collar 0, overlap scored, over all meetings together.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from models.training.data import speech_bank
from models.training.diarize import CHUNKS, SLOTS, Network, Size, error_rate, streamed
from models.training.meetings import FRAME, Flags, MeetingMixer

Figures = list[dict[str, Any]]
LATENCY = {"low_latency": 1.04, "very_low_latency": 0.64, "ultra_low_latency": 0.32}


def network_from(folder: Path) -> Network:
    """The network of an exported folder, in single precision."""
    from transformers import Nemotron3DiarizationForAudioFrameClassification as Model

    model = Model.from_pretrained(str(folder), local_files_only=True, dtype=torch.float32).eval()
    audio, streaming = model.config.audio_config, model.config.streaming_config
    network = Network(
        Size(
            hidden=audio.hidden_size,
            layers=audio.num_hidden_layers,
            heads=audio.num_attention_heads,
            head_hidden=model.config.head_config.hidden_size,
            cache=streaming.speaker_cache_length,
            fifo=streaming.fifo_length,
            period=streaming.speaker_cache_update_period,
        )
    )
    network.model = model
    return network.eval()


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
    wrong, whole = error_rate(told, meant)
    missed, false = float(np.maximum(0, spoken - heard).sum()), float(np.maximum(0, heard - spoken).sum())
    shares = {"missed": missed, "false": false, "confused": wrong - missed - false}
    return {key: 100 * value / whole for key, value in shares.items()}


def diarize_figures(folder: Path, data: Path, cache: Path, meetings: int = 15, seconds: float = 75) -> Figures:
    """A row for each profile and number of people, and for the real conversation."""
    bank, network = speech_bank(data, cache), network_from(folder)
    mixer = MeetingMixer(bank, bank.validation, speeds=(1.0,))
    held = [mixer.one(np.random.default_rng((71, k)), seconds, 2 + k % 3) for k in range(meetings)]
    pcm = np.stack([m.pcm for m in held])
    overlap = sum((m.active.sum(1) > 1).sum() for m in held) / sum(m.active.any(1).sum() for m in held)
    rows: Figures = []
    for profile in ("low_latency", "ultra_low_latency"):
        told = [smooth(t) for t in streamed(network, pcm, profile)]
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
                "profile_s": LATENCY[profile],
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
        for profile in CHUNKS:
            heard = smooth(streamed(network, real[0][None], profile)[0])
            wrong, whole = error_rate(heard, real[1])
            rows.append({"profile_s": LATENCY[profile], "people": 2, "real": "telephone, 30 s", "der": 100 * wrong / whole}
                        | parts(heard, real[1]))  # fmt: skip
    return rows

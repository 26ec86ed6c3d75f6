"""Two speakers out of one channel: held-out speakers, as pairs at unequal levels, alone, and in what `CONDITIONS` names.

Pitches are called alike within 0.4 octaves. SI-SDR in dB, outputs in the better order (of three people, in the best way in
which those of one output never meet).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from models.bsrnn_separator import BandSplitSeparator
from models.training.conversations import ConversationMixer, Shares
from models.training.data import SpeechBank, speech_bank
from models.training.evaluate import Figures, si_sdr, streamed, utterances
from models.training.losses import partition_invariant
from models.training.mixing import decibels, rms, typical_pitch

CONDITIONS: dict[str, Shares] = {
    "overlap 50-100 %": Shares(1, 0, 0, 0, 0, 0, 0),
    "overlap 0-50 %": Shares(0, 1, 0, 0, 0, 0, 0),
    "three people, two at once": Shares(0, 0, 1, 0, 0, 0, 0),
    "rooms": Shares(1, 0, 0, 1, 0, 0, 0),
    "noise 12-35 dB down": Shares(1, 0, 0, 0, 1, 0, 0),
    "telephone": Shares(1, 0, 0, 0, 0, 1, 0),
}


def speech_figures(model: BandSplitSeparator, data: Path, cache: Path, pairs: int = 100) -> Figures:
    """A row for each condition: fully overlapped, half overlapped, alone."""
    bank, length = speech_bank(data, cache), 8 * 16000
    rows: Figures = []
    for name, shift in (("full overlap", 0), ("half overlap", length // 3)):
        before, after, near = [], [], []
        for number in range(pairs):
            rng = np.random.default_rng((99, number))
            one, two = utterances(bank, rng, 2, length - shift)
            target = np.stack([np.pad(one, (0, shift)), np.pad(two * decibels(rng.uniform(-5, 5)), (shift, 0))])
            target = (target * 0.05)[:, None].astype(np.float32)
            estimate, mixture = streamed(model, target.sum(0)), target.sum(0)
            ways = [[si_sdr(estimate[o], target[s]) for s, o in enumerate(order)] for order in ((0, 1), (1, 0))]
            after += max(ways, key=sum)
            before += [si_sdr(mixture, source) for source in target]
            apart = np.log2(typical_pitch(one, 16000) / typical_pitch(two, 16000))
            near += [bool(abs(apart) < 0.4)] * 2
        gain, like = np.subtract(after, before), np.array(near)
        rows.append({"condition": name, "pairs": pairs, "mixture": float(np.mean(before))}
                    | {"estimate": float(np.mean(after)), "gain": float(gain.mean())}
                    | {"median_gain": float(np.median(gain)), "worse_than_mixture": float((gain < 0).mean())}
                    | {"like_pitch": float(like.mean()), "like_pitch_gain": float(gain[like].mean())}
                    | {"unlike_pitch_gain": float(gain[~like].mean())})  # fmt: skip
    kept, leak = [], []
    for number in range(len(bank.validation)):
        (voice,) = utterances(bank, np.random.default_rng((98, number)), 1, length)
        mixture = (voice * 0.05)[None].astype(np.float32)
        estimate = streamed(model, mixture)
        loud, quiet = sorted(estimate, key=rms, reverse=True)
        kept.append(si_sdr(loud, mixture))
        leak.append(20 * np.log10(rms(quiet) / rms(mixture)))
    rows.append({"condition": "lone speaker", "speakers": len(kept), "kept_si_sdr": float(np.mean(kept))}
                | {"other_output_db": float(np.mean(leak))})  # fmt: skip
    return rows + condition_figures(model, bank)


def condition_figures(model: BandSplitSeparator, bank: SpeechBank, segments: int = 40) -> Figures:
    """A row for each of `CONDITIONS`: 8 s of held-out people, drawn as in training; gain over the mixture by output."""
    rows: Figures = []
    for name, shares in CONDITIONS.items():
        mixer, gains = ConversationMixer(bank, bank.validation, 8.0, shares), []
        for number in range(segments):
            mixture, voices = mixer.batch(np.random.default_rng((97, number)), 1)
            estimate = torch.from_numpy(streamed(model, mixture[0]))[None]
            _, meant = partition_invariant(estimate, torch.from_numpy(voices), torch.from_numpy(mixture))
            for output in range(2):
                target, told = meant[0, output].numpy(), estimate[0, output].numpy()
                gains.append(si_sdr(told, target) - si_sdr(mixture[0], target))
        gain = np.array(gains)
        rows.append({"condition": name, "segments": segments, "gain": float(gain.mean())}
                    | {"median_gain": float(np.median(gain)), "worse_than_mixture": float((gain < 0).mean())})  # fmt: skip
    return rows

"""The arrival-order speaker cache: which frames of the past a stream keeps of everybody.

I. Medennikov et al., "Streaming Sortformer", 2025 (arXiv:2507.18446), with the rule of the published models: a frame
speaks for speaker k by s[t, k] = log p[t, k] - log(1 - p[t, k]) + sum_j log(1 - p[t, j]) - log 1/2, which is high where k
speaks alone. The best frames of each speaker are raised twice, so that everybody keeps some; then the best of all are
kept, speaker by speaker in the order of arrival, each in the order of time, each followed by learned silence. One frame
may be kept for two speakers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

NEVER = float("-inf")


@dataclass(frozen=True)
class Policy:
    """How frames are chosen, under NeMo's names; rates are shares of a speaker's part of the cache."""

    spkcache_sil_frames_per_spk: int = 1
    pred_score_threshold: float = 0.25
    scores_boost_latest: float = 0.05
    strong_boost_rate: float = 0.75
    weak_boost_rate: float = 1.5
    min_pos_scores_rate: float = 0.5


def scores(probs: Tensor, enough: int, policy: Policy) -> Tensor:
    """How well a frame stands for a speaker: `[T, K]` -> `[T, K]`, minus infinity where the speaker is not heard.

    A speaker with `enough` frames of positive score does without the others, in which somebody else speaks too.
    """
    on = torch.log(probs.clamp(min=policy.pred_score_threshold))
    off = torch.log((1 - probs).clamp(min=policy.pred_score_threshold))
    found = on - off + off.sum(1, keepdim=True) + math.log(2)
    positive = found > 0
    silent, doubtful = probs <= 0.5, ~positive & (positive.sum(0) >= enough)
    return found.masked_fill(silent | doubtful, NEVER)


def _raise(found: Tensor, count: int, by: float) -> Tensor:
    """The `count` best of each column, higher by so much."""
    best = torch.sort(found, dim=0, descending=True, stable=True).indices[:count]
    return found.scatter_add(0, best, found.new_full(best.shape, by))


def compress(embeds: Tensor, probs: Tensor, length: int, silence: Tensor, policy: Policy) -> tuple[Tensor, Tensor]:
    """The `length` frames worth keeping of more: `[T, D]`, `[T, K]` -> `[length, D]`, `[length, K]`.

    Frames from `length` on are the new ones. Of equal scores the earlier speaker, then the earlier frame is taken: `topk`
    leaves that open, and saturated probabilities are often equal. `silence [D]` fills the gaps, with probability zero.
    """
    frames, speakers = probs.shape
    pause = policy.spkcache_sil_frames_per_spk
    share = length // speakers - pause
    found = scores(probs, math.floor(share * policy.min_pos_scores_rate), policy)
    found[length:] += policy.scores_boost_latest
    found = _raise(found, math.floor(share * policy.strong_boost_rate), 2 * math.log(2))
    found = _raise(found, math.floor(share * policy.weak_boost_rate), math.log(2))
    flat = nn.functional.pad(found, (0, 0, 0, pause), value=-NEVER).T.flatten()  # speaker by speaker, then its silence
    ordered = torch.sort(flat, descending=True, stable=True)
    chosen, gap = ordered.indices[:length], ordered.values[:length] == NEVER
    chosen = chosen.masked_fill(gap, len(flat)).sort().values
    index = torch.where(chosen == len(flat), frames, (chosen % (frames + pause)).clamp(max=frames))
    embeds = torch.cat((embeds, silence.unsqueeze(0)))
    return embeds[index], nn.functional.pad(probs, (0, 0, 0, 1))[index]

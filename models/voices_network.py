"""The small network between voices and people: is there speech, is it one voice, and whose of those known so far.

It hears two seconds at a time: log mel power, Silero's probability, and, for each known person, the cosines of their centroid
to eight embeddings of windows of 0.8, 1.2 and 1.6 s within or just before these two seconds. People have no order and no
number for it: each is judged by the same weights, beside the best of the others. So it works for any number of people,
and was trained with four (`models/training/listen.py`).

It replaces the thresholds of a cascade. The idea of asking, for each known voice, "does this one speak now" is that of
I. Medennikov et al., "Target-speaker voice activity detection", 2020, arXiv:2005.07272.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.voiceprint import BANDS, WIDTH

SEGMENT, STACK = 200, 4  # frames of 10 ms that are heard at once; of one step of the network
STEPS = SEGMENT // STACK
FIRST, LAST = 25, 45  # the steps of a segment that are told
VIEWS = 8  # embeddings of a segment
QUIET = 1e-11  # the power below which all is silence
WINDOW = 40  # the last steps, of the newest long window


class Sounds(NamedTuple):
    """What a segment is, whoever is known.

    Attributes:
        hidden: `[B, 20, .]`, the last of which is where in the segment a step is.
        speech: `[B, 20, 2]` logits of speech and of overlap.
        pure: `[B]` logits that the last 1.6 s have one voice.
    """

    hidden: Tensor
    speech: Tensor
    pure: Tensor


class Listener(nn.Module):
    """98 thousand parameters."""

    centre: Tensor

    def __init__(self, hidden: int = 48) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(WIDTH))
        self.inp = nn.Linear(STACK * (BANDS + 1) + 1, 64)
        self.gru = nn.GRU(64, hidden, batch_first=True, bidirectional=True)
        self.gru2 = nn.GRU(2 * hidden, hidden, batch_first=True, bidirectional=True)
        self.heads = nn.Linear(2 * hidden, 2)
        self.pure = nn.Linear(4 * hidden, 1)
        self.who = nn.Sequential(
            nn.Linear(2 * hidden + 2 * VIEWS + 4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
        )

    def voices(self, embeddings: Tensor) -> Tensor:
        """Embeddings `[..., 256]` about their common mean, at unit length: cosines then say more."""
        return nn.functional.normalize(embeddings - self.centre, dim=-1, eps=1e-6)

    def sounds(self, frames: Tensor, speech: Tensor) -> Sounds:
        """Frames of `Mel` `[B, 200, 41]` and Silero's probability at each, `[B, 200]`."""
        return self.hear(normal(frames.clamp(min=QUIET).log(), speech))

    def hear(self, given: Tensor) -> Sounds:
        """As `sounds`, of what `normal` gives."""
        found = torch.relu(self.inp(given))
        found, _ = self.gru(found)
        found, _ = self.gru2(found)
        told, window = found[:, FIRST:LAST], found[:, -WINDOW:]
        pooled = torch.cat((window.mean(1), window.amax(1)), -1)
        where = torch.arange(LAST - FIRST, device=told.device)[None, :, None] / 10 - 1
        placed = torch.cat((told, where.expand(len(told), -1, 1)), -1)
        return Sounds(placed, self.heads(told), self.pure(pooled)[:, 0])

    def whose(self, hidden: Tensor, views: Tensor, people: Tensor, counts: Tensor, coherence: Tensor) -> Tensor:
        """Logits that each person speaks, `[B, 20, K]`.

        Shape:
            hidden: `[B, n, .]` of `sounds`, all or some of its steps.
            views: `[B, 8, 256]`, as `voices` gives them.
            people: centroids `[B, K, 256]`; `counts` and `coherence` `[B, K]`, as in `streaming.clusters.State`.
        """
        features = _compared(views, people, counts, coherence)[:, None].expand(-1, hidden.shape[1], -1, -1)
        each = hidden[:, :, None].expand(-1, -1, people.shape[1], -1)
        return self.who(torch.cat((each, features), -1))[..., 0]


def normal(logs: Tensor, speech: Tensor) -> Tensor:
    """Log power `[B, 200, 41]` to `[B, 50, 165]`: about the segment's mean, Silero's probability, the level about its mean."""
    logs = logs.clamp(min=-25)
    mels = (logs[..., :BANDS] - logs[..., :BANDS].mean((1, 2), keepdim=True)) / 3
    level = (logs[..., BANDS:] - logs[..., BANDS:].mean(1, keepdim=True)) / 3
    shape = (len(logs), STEPS)
    spoken = speech.reshape(*shape, STACK).mean(-1, keepdim=True)
    return torch.cat((mels.reshape(*shape, -1), spoken, level.reshape(*shape, -1)), -1)


def _compared(views: Tensor, people: Tensor, counts: Tensor, coherence: Tensor) -> Tensor:
    """What tells whether a person speaks, `[B, K, 19]`: their cosines, the best of the others', and how well they are known."""
    live = counts > 0
    others = live[:, None] & ~torch.eye(people.shape[1], dtype=torch.bool, device=people.device)
    cosines = people @ views.transpose(1, 2)
    rivals = torch.where(others[..., None], cosines[:, None], -0.3).amax(2)
    nearest = torch.where(others, people @ people.transpose(1, 2), -0.3).amax(2)
    known = torch.stack((torch.log1p(counts.float()) / 2, coherence, nearest), -1)
    return torch.cat((cosines, rivals, known), -1)

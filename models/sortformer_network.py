"""The network of the streaming Sortformer: frames of 80 ms in, logits of frames of 10 ms out.

T. Park et al., "Sortformer", 2024 (arXiv:2409.06656), in the later form that transformers calls `nemotron3_diarization`:
eight frames of log mel power make one, a transformer of full attention with rotary positions (J. Su et al., "RoFormer",
2021, arXiv:2104.09864) hears them all, and a sub-pixel convolution makes eight of each again.

Sessions of different length lie end to end in one matrix: `[N, D]` with N the sum of their lengths. All but attention and
the convolution treat frames one by one, so nothing is computed for padding and no session can hear another.

A stream needs logits of few of its frames, those not told yet, except at the steps that choose what to keep. So the last
layer asks only for those: as queries; everybody still answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor, nn

from models.sortformer_cache import Policy
from models.sortformer_features import Front

F = nn.functional
STACK = 8  # frames of 10 ms in one of 80


@dataclass(frozen=True)
class Config:
    """Sizes of the network, and what a checkpoint says about its use.

    Attributes:
        hidden, inner, layers, heads: of the transformer.
        head: width of the head.
        speakers: outputs.
        theta: base of the rotary frequencies.
        positions: the most frames in one step.
    """

    hidden: int = 512
    inner: int = 2048
    layers: int = 31
    heads: int = 8
    head: int = 192
    speakers: int = 8
    theta: float = 10000.0
    positions: int = 5000
    front: Front = field(default_factory=Front)
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        for name in ("hidden", "inner", "layers", "heads", "head", "speakers", "positions"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"got {name} {value!r}, expected a whole number from 1 on")
        if self.hidden % (2 * self.heads):
            raise ValueError(f"got {self.heads} heads, expected that they share {self.hidden} evenly, in pairs")


@dataclass(frozen=True)
class Row:
    """One session in the long matrix: where it begins, how long it is, and which of its frames are asked for."""

    begin: int
    length: int
    first: int
    last: int  # exclusive


def rows(lengths: Sequence[int], asked: Sequence[tuple[int, int]]) -> list[Row]:
    """Sessions laid end to end."""
    begins = accumulate(lengths, initial=0)
    return [Row(begin, length, *span) for begin, length, span in zip(begins, lengths, asked, strict=False)]


class Layer(nn.Module):
    """Attention, then a network of two layers, each after a norm and added to what came in."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        hidden, self.heads = config.hidden, config.heads
        self.norm1 = nn.LayerNorm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.out = nn.Linear(hidden, hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.up = nn.Linear(hidden, config.inner)
        self.down = nn.Linear(config.inner, hidden)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], session: Sequence[Row], keep: Tensor | None) -> Tensor:
        """`[N, D]` -> `[N, D]`, or of the frames numbered `keep [M]`, which are `first` to `last` of each session."""
        told = self.qkv(self.norm1(x)).view(len(x), 3, self.heads, -1)
        qk, v = rotate(told[:, :2], *turn), told[:, 2]
        q, k = qk.unbind(1)
        if keep is not None:
            q, x = q[keep], x[keep]
        x = x + self.out(attend(q, k, v, session, few=keep is not None).flatten(1))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Each pair (x[i], x[i + d/2]) turned by its angle: `x [N, 2, H, d]`, `cos`, `sin` `[N, 1, 1, d/2]`."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, session: Sequence[Row], few: bool) -> Tensor:
    """Every session by itself: `k`, `v` `[N, H, d]`, `q` the same, or when `few` only of the frames asked for."""
    told, at = [], 0
    for row in session:
        count = row.last - row.first if few else row.length
        ours = slice(row.begin, row.begin + row.length)
        query, key, value = (one.transpose(0, 1).unsqueeze(0) for one in (q[at : at + count], k[ours], v[ours]))
        told.append(F.scaled_dot_product_attention(query, key, value))
        at += count
    return torch.cat([one[0].transpose(0, 1) for one in told])


class Sortformer(nn.Module):
    """The network; the weights are those of the checkpoint, with queries, keys and values in one matrix."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.embed = nn.Linear(STACK * config.front.bands, config.hidden, bias=False)
        self.norm_in = nn.LayerNorm(config.hidden)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.layers))
        self.norm_out = nn.LayerNorm(config.hidden)
        self.narrow = nn.Linear(config.hidden, config.head)
        self.finer = nn.Linear(3 * config.head, STACK * config.head)
        self.dense = nn.Linear(config.head, config.head)
        self.speakers = nn.Linear(config.head, config.speakers)
        self.silence = nn.Parameter(torch.zeros(config.hidden))
        half = torch.arange(0, config.hidden // config.heads, 2).float() / (config.hidden // config.heads)
        angles = torch.arange(config.positions).float()[:, None] / config.theta**half
        self.register_buffer("cos", angles.cos()[:, None, None], persistent=False)
        self.register_buffer("sin", angles.sin()[:, None, None], persistent=False)

    def frames(self, mel: Tensor) -> Tensor:
        """Eight frames in one, the last group filled with zeros: `[T, bands]` -> `[ceil(T / 8), D]`."""
        filled = F.pad(mel, (0, 0, 0, -len(mel) % STACK))
        return self.embed(filled.view(-1, self.embed.in_features))

    def forward(self, x: Tensor, session: Sequence[Row]) -> Tensor:
        """Logits of the frames asked for: `[N, D]` -> `[M * 8, speakers]`, M the sum of `last - first`."""
        device = x.device
        position = torch.cat([torch.arange(row.length, device=device) for row in session])
        turn = (self.cos[position], self.sin[position])
        # The convolution hears a neighbour on each side, where there is one.
        wide = [Row(row.begin, row.length, max(row.first - 1, 0), min(row.last + 1, row.length)) for row in session]
        spans = [torch.arange(row.begin + row.first, row.begin + row.last, device=device) for row in wide]
        keep = torch.cat(spans) if any(row.last - row.first < row.length for row in wide) else None
        x = self.norm_in(x)
        for layer in self.layers[:-1]:
            x = layer(x, turn, session, None)
        x = self.narrow(self.norm_out(self.layers[-1](x, turn, wide, keep)))
        return self.logits(x, session, wide)

    def logits(self, x: Tensor, session: Sequence[Row], wide: Sequence[Row]) -> Tensor:
        """The head. `x` are the frames of `wide`, the result is of those of `session`."""
        parts = x.split([row.last - row.first for row in wide])
        heard = []
        for part, asked, given in zip(parts, session, wide, strict=True):
            missing = (asked.first - given.first == 0, given.last - asked.last == 0)  # at the ends: zeros
            heard.append(F.pad(part, (0, 0, *map(int, missing))).unfold(0, 3, 1).transpose(1, 2).flatten(1))
        finer = self.finer(torch.cat(heard)).view(-1, self.config.head)
        return self.speakers(F.relu(self.dense(F.relu(finer))))

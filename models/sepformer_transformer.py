"""What SepFormer and RE-SepFormer are made of: transformer encoders, and the norms around them (`models.sepformer_network`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS_LAYER = 1e-6  # of those inside a transformer
EPS_SMALL = torch.finfo(torch.float32).eps  # of those around one in RE-SepFormer


@dataclass(frozen=True)
class Stack:
    """A transformer encoder.

    Attributes:
        positions: rows kept of its table of sinusoids; 0 for none.
        first: normalise before attention and feed-forward rather than after.
        norm: what RE-SepFormer puts after it: `gln`, `cln`, `ln`, or None.
        skip: add what went in (RE-SepFormer).
    """

    layers: int
    width: int
    heads: int
    inner: int
    activation: str
    positions: int
    first: bool
    norm: str | None = None
    skip: bool = False


class GlobalNorm(nn.Module):
    """Over all but the batch. `gln` with gains of shape `[C, 1]` or `[C, 1, 1]`, as they are stored."""

    def __init__(self, width: int, ndim: int, eps: float) -> None:
        super().__init__()
        self.weight, self.bias = (nn.Parameter(torch.empty(width, *(1,) * (ndim - 2))) for _ in range(2))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, 1, self.weight.flatten(), self.bias.flatten(), self.eps)


class ChannelNorm(nn.LayerNorm):
    """Over the channels, which are the second axis. `cln`, which by its name would be cumulative, and is not."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def norm_of(kind: str, width: int, ndim: int, eps: float) -> nn.Module:
    if kind == "gln":
        return GlobalNorm(width, ndim, eps)
    return ChannelNorm(width, eps=eps) if kind == "cln" else nn.GroupNorm(1, width, eps=eps)


class Layer(nn.Module):
    def __init__(self, s: Stack) -> None:
        super().__init__()
        self.heads, self.first = s.heads, s.first
        self.qkv, self.out = nn.Linear(s.width, 3 * s.width), nn.Linear(s.width, s.width)
        self.up, self.down = nn.Linear(s.width, s.inner), nn.Linear(s.inner, s.width)
        self.norm1, self.norm2 = nn.LayerNorm(s.width, eps=EPS_LAYER), nn.LayerNorm(s.width, eps=EPS_LAYER)
        self.act = F.gelu if s.activation == "gelu" else F.relu

    def forward(self, x: Tensor) -> Tensor:
        if self.first:
            x = x + self._attend(self.norm1(x))
            return x + self.down(self.act(self.up(self.norm2(x))))
        x = self.norm1(x + self._attend(x))
        return cast(Tensor, self.norm2(x + self.down(self.act(self.up(x)))))

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return cast(Tensor, self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))


class Sinusoids(nn.Module):
    """The table is part of the checkpoint."""

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.pe: Tensor
        self.register_buffer("pe", torch.empty(1, rows, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pe[:, : x.shape[1]]


class Transformer(nn.Module):
    """`[B, T, N] -> [B, T, N]`."""

    def __init__(self, s: Stack) -> None:
        super().__init__()
        self.layers, self.final = nn.ModuleList(Layer(s) for _ in range(s.layers)), nn.LayerNorm(s.width, eps=EPS_LAYER)
        self.pos_enc = Sinusoids(s.positions, s.width) if s.positions else nn.Identity()
        self.norm = norm_of(s.norm, s.width, 3, EPS_SMALL) if s.norm else None
        self.skip = s.skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.pos_enc(x)
        for layer in self.layers:
            y = layer(y)
        y = self.final(y)
        if self.norm is not None:
            y = self.norm(y.transpose(1, 2)).transpose(1, 2)
        return y + x if self.skip else y

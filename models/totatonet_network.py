"""ToTaToNet (J. Kalda et al., "PixIT", Odyssey 2024, arXiv 2403.02288, section 3), for inference: separation and diarization.

    encoder   `filters` learned filters                                                 [B, W] -> [B, N, L]
    WavLM     (S. Chen et al. 2022, arXiv 2110.13900), if any, repeated to the encoder's rate and put below
    masker    a dual-path recurrent network (Y. Luo et al. 2020, arXiv 1910.06379)      -> masks [B, S, N, L]
    decoder   masked frames overlap-added                                               -> [B, S, W]
    ears      masked frames averaged over 8 ms, two linear layers, one probability      -> [B, F, S]

Tensors are named as pyannote names them. Asteroid's layers are not needed; WavLM's are transformers'.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS = 1e-8
MASKS = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


@dataclass(frozen=True)
class Config:
    """Sizes in channels, frames, samples and Hz.

    Attributes:
        width, hidden, chunk, hop, repeats, layers: of the dual-path network.
        below, step: channels of WavLM and samples of its frames; 0 without it.
        ears: widths of the linear layers, and how many.
        pool: frames in one of who speaks.
        window: samples that it was trained on.
    """

    rate: int
    window: int
    speakers: int
    filters: int
    kernel: int
    stride: int
    width: int
    hidden: int
    chunk: int
    hop: int
    repeats: int
    layers: int
    mask: str
    bidirectional: bool
    below: int
    step: int
    ears: tuple[int, int]
    pool: int


class Bank(nn.Module):
    """A free filterbank, where it is stored."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.filterbank = nn.Module()
        self.filterbank._filters = nn.Parameter(torch.empty(c.filters, 1, c.kernel))

    @property
    def filters(self) -> Tensor:
        return cast(Tensor, self.filterbank._filters)


class GlobalNorm(nn.Module):
    """Over all but the batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.empty(width)), nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, 1, self.gamma, self.beta, EPS)


class Recurrent(nn.Module):
    def __init__(self, c: Config, both: bool) -> None:
        super().__init__()
        self.rnn = nn.LSTM(c.width, c.hidden, c.layers, batch_first=True, bidirectional=both)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.rnn(x)[0])


class Pair(nn.Module):
    """Within chunks, then across them: `[B, N, K, C] -> [B, N, K, C]`."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        across = c.hidden * (1 + c.bidirectional)
        self.intra_RNN, self.inter_RNN = Recurrent(c, True), Recurrent(c, c.bidirectional)
        self.intra_linear, self.inter_linear = nn.Linear(2 * c.hidden, c.width), nn.Linear(across, c.width)
        self.intra_norm, self.inter_norm = GlobalNorm(c.width), GlobalNorm(c.width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, k, chunks = x.shape
        y = self.intra_linear(self.intra_RNN(x.permute(0, 3, 2, 1).reshape(b * chunks, k, n)))
        x = x + self.intra_norm(y.view(b, chunks, k, n).permute(0, 3, 2, 1).contiguous())
        y = self.inter_linear(self.inter_RNN(x.permute(0, 2, 3, 1).reshape(b * k, chunks, n)))
        return cast(Tensor, x + self.inter_norm(y.view(b, k, chunks, n).permute(0, 3, 1, 2).contiguous()))


class Masker(nn.Module):
    """`[B, N, L] -> [B, S, filters, L]`."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.bottleneck = nn.Sequential(GlobalNorm(c.filters + c.below), nn.Conv1d(c.filters + c.below, c.width, 1))
        self.net = nn.Sequential(*(Pair(c) for _ in range(c.repeats)))
        self.first_out = nn.Sequential(nn.PReLU(), nn.Conv2d(c.width, c.speakers * c.width, 1))
        self.net_out = nn.Sequential(nn.Conv1d(c.width, c.width, 1), nn.Tanh())
        self.net_gate = nn.Sequential(nn.Conv1d(c.width, c.width, 1), nn.Sigmoid())
        self.mask_net = nn.Conv1d(c.width, c.filters, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        (rows, _, frames), k = x.shape, self.c.chunk
        cut: dict[str, Any] = {"kernel_size": (k, 1), "padding": (k, 0), "stride": (self.c.hop, 1)}
        x = F.unfold(self.bottleneck(x)[..., None], **cut).unflatten(1, (self.c.width, k))
        x = self.first_out(self.net(x)).unflatten(1, (self.c.speakers, -1)).flatten(0, 1)
        x = F.fold(x.flatten(1, 2), (frames, 1), **cut)[..., 0]
        x = self.mask_net(self.net_out(x) * self.net_gate(x))
        return MASKS[self.c.mask](x).unflatten(0, (rows, -1))


class Network(nn.Module):
    """`[B, W] -> (stems [B, S, W], probabilities [B, F, S])`; `below` is WavLM."""

    def __init__(self, c: Config, below: nn.Module | None = None) -> None:
        super().__init__()
        self.c = c
        self.encoder, self.decoder, self.masker = Bank(c), Bank(c), Masker(c)
        self.wavlm = below
        width, count = c.ears
        sizes = [c.filters, *[width] * count]
        self.linear = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.classifier = nn.Linear(sizes[-1] if count else 1, 1)

    def forward(self, pcm: Tensor) -> tuple[Tensor, Tensor]:
        rows, width = pcm.shape
        coded = F.conv1d(pcm[:, None], self.encoder.filters, stride=self.c.stride)
        masked = (self.masker(self._with_below(pcm, coded)) * coded[:, None]).flatten(0, 1)
        stems = F.conv_transpose1d(masked, self.decoder.filters, stride=self.c.stride).view(rows, self.c.speakers, -1)
        x = F.avg_pool1d(masked, self.c.pool).transpose(1, 2)
        for linear in self.linear:
            x = F.leaky_relu(linear(x))
        x = x if len(self.linear) else x.square().sum(2, keepdim=True)
        spoken = self.classifier(x).sigmoid().view(rows, self.c.speakers, -1).transpose(1, 2)
        return F.pad(stems, (0, width - stems.shape[2])), spoken

    def _with_below(self, pcm: Tensor, coded: Tensor) -> Tensor:
        """The encoder's frames with WavLM's under them; one of those lasts several."""
        if self.wavlm is None:
            return coded
        below = self.wavlm(pcm).last_hidden_state.transpose(1, 2).repeat_interleave(self.c.step // self.c.stride, 2)
        return torch.cat((coded, F.pad(below, (0, coded.shape[2] - below.shape[2]))), 1)

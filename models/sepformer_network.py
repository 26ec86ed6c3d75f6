"""SepFormer (C. Subakan et al. 2021, arXiv 2010.13154) and RE-SepFormer (2022, arXiv 2206.09507), for inference.

    encoder   frames of `kernel` samples, half overlapping, as `filters` positive numbers          [B, W] -> [B, N, L]
    mask net  one mask a speaker                                                                   [B, N, L] -> [B, S, N, L]
    decoder   masked frames overlap-added                                                          -> [B, S, W]

SepFormer cuts the frames into chunks of K that overlap by half; transformers attend within each chunk and, at each place of
a chunk, across all chunks. RE-SepFormer's chunks do not overlap, and only their means attend to one another.

Tensors are named as SpeechBrain names them, but for `NAMES`. In SpeechBrain the means of all recordings of a batch attend to
one another, so that what is told of one depends on the rest of the batch; here each row is as SpeechBrain's batch of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.sepformer_transformer import Stack, Transformer, norm_of

NAMES = (  # ours, theirs
    ("masknet.seg_model.", "masknet.model.seg_model."),
    ("masknet.mem_model.", "masknet.model.mem_model."),
    ("masknet.output_fc.", "masknet.model.output_fc."),
    ("layers.", "mdl.layers."),
    ("final.", "mdl.norm.norm."),
    (".norm1.", ".norm1.norm."),
    (".norm2.", ".norm2.norm."),
    (".qkv.weight", ".self_att.att.in_proj_weight"),
    (".qkv.bias", ".self_att.att.in_proj_bias"),
    (".out.", ".self_att.att.out_proj."),
    (".up.", ".pos_ffn.ffn.0."),
    (".down.", ".pos_ffn.ffn.3."),
    ("_linear.", "_linear.w."),
)
EPS = 1e-8  # of the mask net's norms in SepFormer


@dataclass(frozen=True)
class Config:
    """Sizes in channels, frames, samples and Hz.

    Attributes:
        light: RE-SepFormer.
        chunk: frames in a chunk.
        blocks: pairs of `within` and `across`.
        norm, linear, skip: around them (SepFormer).
        mask: activation of the masks.
        bias: of the decoder.
    """

    light: bool
    rate: int
    speakers: int
    kernel: int
    filters: int
    width: int
    chunk: int
    blocks: int
    within: Stack
    across: Stack
    norm: str = "ln"
    linear: bool = False
    skip: bool = True
    mask: str = "relu"
    bias: bool = False

    @property
    def stride(self) -> int:
        return self.kernel // 2

    def frames(self, samples: int) -> int:
        """Frames that so many samples make."""
        return (samples - self.kernel) // self.stride + 1

    def filling(self, chunks: int) -> int:
        """Samples that fill so many chunks up to the last frame but one, which is always padding.

        SepFormer pads L frames by `K - (K // 2 + L) % K`, RE-SepFormer by `K - L % K`: from 1 to K, so that any other
        length computes more zeros.
        """
        frames = self.chunk * chunks - 1 - (0 if self.light else self.chunk // 2)
        return (frames - 1) * self.stride + self.kernel

    @property
    def longest(self) -> int:
        """Samples of the longest window: where the table of sinusoids ends, or a minute."""
        chunks = self.across.positions if self.light else self.across.positions // 2
        return self.filling(chunks) if chunks else 60 * self.rate


class Pair(nn.Module):
    """Within chunks, then across them (the paper, section 2.2): `[B, N, K, C] -> [B, N, K, C]`, C chunks."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.intra_mdl, self.inter_mdl = Transformer(c.within), Transformer(c.across)
        self.intra_norm, self.inter_norm = (norm_of(c.norm, c.width, 4, EPS) for _ in range(2))
        if c.linear:
            self.intra_linear, self.inter_linear = (nn.Linear(c.width, c.width) for _ in range(2))
        self.linear, self.skip = c.linear, c.skip

    def forward(self, x: Tensor) -> Tensor:
        b, n, k, chunks = x.shape
        y = self.intra_mdl(x.permute(0, 3, 2, 1).reshape(b * chunks, k, n))
        y = self.intra_linear(y) if self.linear else y
        y = self.intra_norm(y.view(b, chunks, k, n).permute(0, 3, 2, 1).contiguous())
        x = y + x if self.skip else y
        y = self.inter_mdl(x.permute(0, 2, 3, 1).reshape(b * k, chunks, n))
        y = self.inter_linear(y) if self.linear else y
        return cast(Tensor, x + self.inter_norm(y.view(b, k, chunks, n).permute(0, 3, 1, 2).contiguous()))


class DualPath(nn.Module):
    """SepFormer's mask net, `[B, N, L] -> [B, S, N, L]`."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.norm = norm_of(c.norm, c.filters, 3, EPS)
        self.conv1d = nn.Conv1d(c.filters, c.width, 1, bias=False)
        self.dual_mdl = nn.ModuleList(Pair(c) for _ in range(c.blocks))
        self.prelu = nn.PReLU()
        self.conv2d = nn.Conv2d(c.width, c.width * c.speakers, 1)
        self.output = nn.Sequential(nn.Conv1d(c.width, c.width, 1), nn.Tanh())
        self.output_gate = nn.Sequential(nn.Conv1d(c.width, c.width, 1), nn.Sigmoid())
        self.end_conv1x1 = nn.Conv1d(c.width, c.filters, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, _, frames = x.shape
        x = self._chunks(self.conv1d(self.norm(x)))
        for pair in self.dual_mdl:
            x = pair(x)
        x = self.conv2d(self.prelu(x)).unflatten(1, (self.c.speakers, -1)).flatten(0, 1)
        x = self._added(x, frames)
        x = self.end_conv1x1(self.output(x) * self.output_gate(x))
        return x.relu().view(rows, self.c.speakers, -1, frames)

    def _chunks(self, x: Tensor) -> Tensor:
        """`[B, N, L] -> [B, N, K, C]`; with an odd K chunks lie K // 2 and K - K // 2 apart in turn."""
        k, p = self.c.chunk, self.c.chunk // 2
        x = F.pad(x, (p, p + k - (p + x.shape[2]) % k))
        even, odd = x[:, :, :-p].unflatten(2, (-1, k)), x[:, :, p:].unflatten(2, (-1, k))
        return torch.stack((even, odd), 3).flatten(2, 3).transpose(2, 3)

    def _added(self, x: Tensor, frames: int) -> Tensor:
        """Overlap-add: `[B, N, K, C] -> [B, N, L]`."""
        p = self.c.chunk // 2
        x = x.transpose(2, 3)
        even, odd = x[:, :, ::2].flatten(2)[:, :, p:], x[:, :, 1::2].flatten(2)[:, :, :-p]
        return (even + odd)[:, :, :frames]


class Light(nn.Module):
    """RE-SepFormer's mask net, `[B, N, L] -> [B, S, N, L]`."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.seg_model = nn.ModuleList(Transformer(c.within) for _ in range(c.blocks))
        self.mem_model = nn.ModuleList(Transformer(c.across) for _ in range(c.blocks - 1))
        self.output_fc = nn.Sequential(nn.PReLU(), nn.Conv1d(c.filters, c.filters * c.speakers, 1))
        self.mask = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}[c.mask]

    def forward(self, x: Tensor) -> Tensor:
        (rows, _, frames), k = x.shape, self.c.chunk
        y = F.pad(x.transpose(1, 2), (0, 0, 0, k - frames % k)).unflatten(1, (-1, k))  # [B, C, K, N]
        memory = torch.zeros_like(y[:, :, :1])
        for n, within in enumerate(self.seg_model):
            y = within((y + memory).flatten(0, 1)).unflatten(0, (rows, -1))
            if n < len(self.mem_model):
                memory = self.mem_model[n](y.mean(2))[:, :, None]
        y = self.output_fc(y.flatten(1, 2)[:, :frames].transpose(1, 2))
        return self.mask(y.unflatten(1, (-1, self.c.speakers)).transpose(1, 2))


class Encoder(nn.Module):
    """`[B, W] -> [B, N, L]`."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.conv1d = nn.Conv1d(1, c.filters, c.kernel, c.stride, bias=False)

    def forward(self, pcm: Tensor) -> Tensor:
        return cast(Tensor, self.conv1d(pcm[:, None]).relu())


class Network(nn.Module):
    """`[B, W] -> [B, S, W]`; samples after the last whole frame are told as zeros, as in SpeechBrain."""

    def __init__(self, c: Config) -> None:
        super().__init__()
        self.c = c
        self.encoder = Encoder(c)
        self.masknet = Light(c) if c.light else DualPath(c)
        self.decoder = nn.ConvTranspose1d(c.filters, 1, c.kernel, c.stride, bias=c.bias)

    def forward(self, pcm: Tensor) -> Tensor:
        coded = self.encoder(pcm)
        stems = self.decoder((self.masknet(coded) * coded[:, None]).flatten(0, 1)).view(len(pcm), self.c.speakers, -1)
        return F.pad(stems, (0, pcm.shape[1] - stems.shape[2]))


def theirs(name: str) -> str:
    """SpeechBrain's name of one of our tensors, without the module's in front."""
    for mine, other in NAMES:
        name = name.replace(mine, other)
    return name

"""A small causal band-split RNN.

Source: Y. Luo and J. Yu, "Music Source Separation with Band-split RNN", IEEE/ACM TASLP 2023 (arXiv:2209.15174), in its
causal form. The short-time spectrum of one frame is cut into K bands, each band becomes one vector of D numbers, and
blocks of two residual layers work on the `[K, D]` grid: one RNN over time whose weights all bands share, then a layer
across the bands of one frame. A mask per source multiplies the original spectrum.

What differs from the paper, and why:

- The RNN that bands share is a gated linear recurrence (QRNN with a kernel of one, Bradbury et al. 2017,
  arXiv:1611.01576; also "minGRU", arXiv:2410.01201): its gates see the input only, so that all products over time are
  one, and what remains step by step is one interpolation: less work than an LSTM or a GRU, above all in training.
- Across the bands stands one narrow full-band recurrence over time (every band gives `narrow` numbers; K*narrow -> G ->
  K*narrow) in place of a bidirectional RNN over the bands. Frame by frame that is one step instead of 2K, which is what
  makes it cheap in a stream.
- Bands come in groups of equal width, so that all bands of a group are one batched product.
- Layer norms see one frame only. Nothing is averaged over time, the batch or the file.
- Features are the spectrum with its magnitude compressed, |X|^0.3; masks multiply the spectrum itself. So silence in is
  silence out, exactly, and level stays in the signal path.
- Stereo is worked on as (left + right, left - right)/sqrt(2); the transform is orthonormal and undone at the end.

Analysis and synthesis windows are both the square root of a periodic Hann window, whose squares sum to one at a hop of
half a window: unit masks give back the input, one hop late.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.bsrnn_config import Config
from models.recurrence import Memory

COMPRESSION = 0.3
Carried = tuple[Tensor, Tensor, Tensor, Tensor]


class BandSplit(nn.Module):
    """Spectrum features to band vectors: one affine map and one layer norm a band.

    Shape: `[T, B, F, I]` (F = covered bins, I numbers a bin) -> `[T, B, K, D]`.
    """

    def __init__(self, config: Config, inputs: int) -> None:
        super().__init__()
        self.bands = config.bands
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(g.count, g.width * inputs, config.features) / (g.width * inputs) ** 0.5)
            for g in self.bands
        )
        self.bias = nn.Parameter(torch.zeros(config.count, config.features))
        self.norm = nn.LayerNorm(config.features)

    def forward(self, spectrum: Tensor) -> Tensor:
        time, batch, _, inputs = spectrum.shape
        parts = []
        pieces = spectrum.split_with_sizes([group.bins for group in self.bands], dim=2)
        for group, weight, piece in zip(self.bands, self.weights, pieces, strict=True):
            rows = piece.reshape(batch * time, group.count, group.width * inputs)
            parts.append(torch.bmm(rows.transpose(0, 1), weight))
        vectors = torch.cat(parts).transpose(0, 1) + self.bias
        normed: Tensor = self.norm(vectors)
        return normed.view(time, batch, *self.bias.shape)


class MaskHead(nn.Module):
    """Band vectors to complex masks of S sources and C channels.

    Shape: `[T, B, K, D]` -> `[T, B, bins, S, C, 2]`. Starts at the mask 1/S everywhere: all sources alike. Additive
    masks m are made to sum to one by m - mean(m) + 1/S, which is the same as spreading the residual equally.
    """

    middle: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.bands, self.outputs = config.bands, (len(config.sources), config.channels, 2)
        self.additive, self.beyond = config.additive, config.covered - config.bins
        self.norm = nn.LayerNorm(config.features)
        self.mix = nn.Linear(config.features, 2 * config.features)
        per_bin = len(config.sources) * config.channels * 2
        self.weights = nn.ParameterList(
            nn.Parameter(
                torch.randn(g.count, config.features, g.width // g.fold * per_bin) * 0.1 / config.features**0.5
            )
            for g in self.bands
        )
        start = torch.zeros(self.outputs)
        start[..., 0] = 1 / len(config.sources)
        self.register_buffer("middle", start, persistent=False)
        self.bias = nn.Parameter(torch.cat([start.expand(g.bins // g.fold, *self.outputs) for g in self.bands]).clone())

    def forward(self, vectors: Tensor) -> Tensor:
        time, batch, bands, features = vectors.shape
        gate, value = self.mix(self.norm(vectors)).chunk(2, dim=-1)
        by_band = (torch.sigmoid(gate) * torch.tanh(value)).view(batch * time, bands, features).transpose(0, 1)
        by_group = by_band.split_with_sizes([group.count for group in self.bands])
        biases = self.bias.split_with_sizes([group.bins // group.fold for group in self.bands])
        masks = []
        for group, weight, rows, bias in zip(self.bands, self.weights, by_group, biases, strict=True):
            mask = torch.bmm(rows, weight).transpose(0, 1).reshape(time, batch, *bias.shape) + bias
            if self.additive:
                mask = mask - (mask.mean(3, keepdim=True) - self.middle)
            masks.append(mask.repeat_interleave(group.fold, dim=2) if group.fold > 1 else mask)
        masks[-1] = masks[-1][:, :, : masks[-1].shape[2] - self.beyond]
        return torch.cat(masks, dim=2)


class Block(nn.Module):
    """Memory of each band (shared weights), then memory across all bands. `[T, B, K, D]` -> the same."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        flat = config.count * config.narrow
        self.norm_time = nn.LayerNorm(config.features)
        self.time = Memory(config.features, config.hidden)
        self.norm_full = nn.LayerNorm(config.features)
        self.narrow = nn.Linear(config.features, config.narrow)
        self.down = nn.Linear(flat, config.bottleneck)
        self.full = Memory(config.bottleneck, config.bottleneck)
        self.up = nn.Linear(config.bottleneck, flat)
        self.wide = nn.Linear(config.narrow, config.features)

    def forward(self, x: Tensor, per_band: Tensor, full: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`per_band [B, K, H]` and `full [B, G]` are the hidden states before the first frame and after the last."""
        told, per_band = self.time(self.norm_time(x), per_band)
        x = x + told
        narrow = self.narrow(self.norm_full(x))
        frames = nn.functional.silu(self.down(narrow.flatten(2)))
        deep, full = self.full(frames, full)
        back = nn.functional.silu(self.up(frames + deep).view_as(narrow) + narrow)
        return x + self.wide(back), per_band, full


class BandSplitRNN(nn.Module):
    """The network. `forward` is for whole segments, `step` for consecutive pieces with carried state."""

    window: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.split = BandSplit(config, inputs=3 * config.channels)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.head = MaskHead(config)
        self.register_buffer("window", torch.hann_window(config.stft, periodic=True).sqrt(), persistent=False)

    def start(self, batch: int) -> Carried:
        """Zero state: input tail `[B, C, hop]`, hidden states `[B, N, K, H]` and `[B, N, G]`, output tail `[B, S, C, hop]`."""
        c = self.config
        zeros = self.window.new_zeros
        return (
            zeros(batch, c.channels, c.hop),
            zeros(batch, c.blocks, c.count, c.hidden),
            zeros(batch, c.blocks, c.bottleneck),
            zeros(batch, len(c.sources), c.channels, c.hop),
        )

    def features(self, spectrum: Tensor) -> Tensor:
        """Compressed real part, imaginary part and magnitude. `[B, C, T, F]` complex -> `[T, B, covered, 3 C]`."""
        parts = torch.view_as_real(spectrum) * (self.config.stft / 2) ** -0.5
        power = parts.square().sum(-1, keepdim=True) + 1e-12
        small = parts * power ** ((COMPRESSION - 1) / 2)
        stacked = torch.cat((small, power ** (COMPRESSION / 2)), dim=-1)  # [B, C, T, F, 3]
        flat = stacked.permute(2, 0, 3, 1, 4).flatten(3)
        return nn.functional.pad(flat, (0, 0, 0, self.config.covered - self.config.bins))

    def masks(self, spectrum: Tensor, per_band: Tensor, full: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Complex masks `[B, S, C, T, F]` for a spectrum `[B, C, T, F]`, and the next hidden states."""
        x = self.split(self.features(spectrum))
        bands_next, full_next = [], []
        for index, block in enumerate(self.blocks):
            x, one, other = block(x, per_band[:, index], full[:, index])
            bands_next.append(one)
            full_next.append(other)
        masks = torch.view_as_complex(self.head(x)).permute(1, 3, 4, 0, 2)
        return masks, torch.stack(bands_next, 1), torch.stack(full_next, 1)

    def step(self, pcm: Tensor, state: Carried) -> tuple[Tensor, Carried]:
        """`pcm [B, C, hop*k]` -> stems `[B, S, C, hop*k]`, one hop late, and the next state."""
        tail, per_band, full, overlap = state
        hop = self.config.hop
        joined = torch.cat((tail, rotate(pcm)), dim=-1)
        frames = joined.unfold(-1, self.config.stft, hop) * self.window
        spectrum = torch.fft.rfft(frames)
        masks, per_band, full = self.masks(spectrum, per_band, full)
        pieces = torch.fft.irfft(spectrum.unsqueeze(1) * masks, n=self.config.stft) * self.window
        early, late = pieces.tensor_split(2, dim=-1)
        stems = early + torch.cat((overlap.unsqueeze(3), late[..., :-1, :]), dim=3)
        return rotate(stems.flatten(3)), (joined[..., -hop:], per_band, full, late[..., -1, :])

    def forward(self, pcm: Tensor) -> Tensor:
        """A whole segment: `[B, C, T]` -> stems `[B, S, C, T]`, sample n beside sample n of the input."""
        hop, length = self.config.hop, pcm.shape[-1]
        padded = nn.functional.pad(pcm, (0, hop + -length % hop))
        stems, _ = self.step(padded, self.start(len(pcm)))
        return stems[..., hop : hop + length]


def rotate(pcm: Tensor) -> Tensor:
    """`[..., 2, T]` left and right to middle and side, or back: the map is its own inverse. Mono stays as it is."""
    if pcm.shape[-2] == 1:
        return pcm
    left, right = pcm[..., 0, :], pcm[..., 1, :]
    return torch.stack((left + right, left - right), dim=-2) * 0.5**0.5

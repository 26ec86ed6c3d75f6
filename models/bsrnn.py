"""A small causal band-split RNN, and its file.

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

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.separator import Spec
from streaming.framing import Framing

COMPRESSION = 0.3
FORMAT = "rivulet-bsrnn-1"
Carried = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class BandGroup:
    """`count` neighbouring bands of `width` bins; one mask value serves `fold` neighbouring bins."""

    width: int
    count: int
    fold: int = 1

    @property
    def bins(self) -> int:
        return self.width * self.count


@dataclass(frozen=True)
class Config:
    """Every number that builds the network.

    Attributes:
        name: of the model.
        rate: Hz.
        channels: 1 or 2.
        sources: names, in order.
        stft: window in samples; the hop is half of it.
        groups: (width, count, fold) from low to high frequency; together they cover stft/2 + 1 bins or a few more.
        features: D, numbers per band.
        hidden: H, units of the recurrence that bands share.
        narrow: numbers that each band gives to and takes from the full-band layer.
        bottleneck: G, units of the full-band recurrence.
        blocks: how many.
        additive: the stems sum to the mixture (what is missing is spread equally).
        interchangeable: outputs are speakers without identity.
        licence: of the weights.
    """

    name: str
    rate: int
    channels: int
    sources: tuple[str, ...]
    stft: int
    groups: tuple[tuple[int, int, int], ...]
    features: int = 48
    hidden: int = 80
    narrow: int = 16
    bottleneck: int = 160
    blocks: int = 3
    additive: bool = False
    interchangeable: bool = False
    licence: str = "CC-BY-4.0"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))
        object.__setattr__(self, "groups", tuple(tuple(int(n) for n in group) for group in self.groups))
        if self.stft % 2 or self.channels not in (1, 2):
            raise ValueError(f"got a window of {self.stft} samples, {self.channels} channels; expected even, 1 or 2")
        if any(width % fold for width, _, fold in self.groups):
            raise ValueError(f"in groups {self.groups} the width is not always a multiple of the fold")
        if not 0 <= self.covered - self.bins < max(width for width, _, _ in self.groups):
            raise ValueError(f"groups {self.groups} cover {self.covered} bins, expected {self.bins} or a few more")

    @property
    def hop(self) -> int:
        return self.stft // 2

    @property
    def bins(self) -> int:
        return self.stft // 2 + 1

    @property
    def covered(self) -> int:
        return sum(group.bins for group in self.bands)

    @property
    def bands(self) -> tuple[BandGroup, ...]:
        return tuple(BandGroup(*group) for group in self.groups)

    @property
    def count(self) -> int:
        """K, the number of bands."""
        return sum(group.count for group in self.bands)

    def spec(self) -> Spec:
        """What a server is told of it.

        Rebuilt from 16 s of a meeting, outputs are 20 to 56 dB from those that never stopped (from 8 s: 13 to 52); from 3 s
        of a song, 50 dB.
        """
        return Spec(
            name=self.name,
            rate=self.rate,
            channels=self.channels,
            sources=self.sources,
            framing=Framing(window=self.hop, hop=self.hop, delay=self.stft - self.hop),
            interchangeable=self.interchangeable,
            licence=self.licence,
            memory=(16 if self.interchangeable else 3) * self.rate,
        )


SPEECH = Config(
    name="speech",
    rate=16000,
    channels=1,
    sources=("speaker_1", "speaker_2"),
    stft=512,
    groups=((4, 8, 1), (8, 8, 1), (21, 8, 1)),
    interchangeable=True,
    blocks=4,
)

MUSIC = Config(
    name="music",
    rate=44100,
    channels=2,
    sources=("vocals", "drums", "bass", "other"),
    stft=2048,
    groups=((2, 8, 1), (4, 8, 1), (12, 6, 1), (32, 6, 2), (120, 6, 4)),
    additive=True,
)


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


def scan(keep: Tensor, new: Tensor, out: Tensor) -> Tensor:
    """`h[t] = keep[t] h[t-1] + new[t]` over the first axis from zero, in log2(T) rounds of whole-tensor operations.

    Two steps are one of the same kind: h[t] = (keep[t] keep[t-1]) h[t-2] + (keep[t] new[t-1] + new[t]). So a sequence of
    half the length gives every second h, and those give the others: twice the arithmetic of the loop, and 4 operators a
    round in place of one a step (G. Blelloch, "Prefix sums and their applications", 1990). There is no division by
    products of gates; they may vanish.

    Shape: `keep`, `new`, `out` `[T, ...]`; writes and returns `out`.
    """
    pairs = len(new) // 2
    if pairs:
        early, late = slice(0, 2 * pairs, 2), slice(1, 2 * pairs, 2)
        twice = torch.addcmul(new[late], keep[late], new[early])
        known = scan(keep[late] * keep[early], twice, out[late])
        rest = new[2::2]
        torch.addcmul(rest, keep[2::2], known[: len(rest)], out=out[2::2])
    out[0] = new[0]
    return out


class Interpolate(torch.autograd.Function):
    """`h[t] = h[t-1] + z[t] (v[t] - h[t-1])` over the first axis, with `h[-1] = start`.

    With a[t] = 1 - z[t], the gradient G[t] that reaches h[t] by all ways obeys G[t] = g[t] + a[t+1] G[t+1]: the same
    recurrence backwards. Then dv[t] = z[t] G[t], dz[t] = (v[t] - h[t-1]) G[t] and dstart = a[0] G[0].

    `parallel` takes `scan` in place of a loop over time: for a GPU, where starting an operator costs more than running it.

    Shape: `v`, `z` `[T, ...]`, `start` `[...]` -> `[T, ...]`.
    """

    @staticmethod
    def forward(ctx: Any, v: Tensor, z: Tensor, start: Tensor, parallel: bool) -> Tensor:
        h = torch.empty_like(v)
        if parallel:
            new = v * z
            torch.lerp(start, v[0], z[0], out=new[0])
            scan(1 - z, new, h)
        else:
            last = start
            for value, gate, out in zip(v.unbind(0), z.unbind(0), h.unbind(0), strict=True):
                last = torch.lerp(last, value, gate, out=out)
        ctx.save_for_backward(v, z, start, h)
        ctx.parallel = parallel
        return h

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        v, z, start, h = ctx.saved_tensors
        keep = 1 - z
        total = torch.empty_like(v)
        if ctx.parallel:
            scan(keep.roll(-1, 0).flip(0), grad.flip(0), total)
            total = total.flip(0)
        else:
            total[-1] = grad[-1]
            for t in range(len(v) - 2, -1, -1):
                torch.addcmul(grad[t], keep[t + 1], total[t + 1], out=total[t])
        before = torch.cat((start.unsqueeze(0), h[:-1]))
        return total * z, total * (v - before), total[0] * keep[0], None


class Memory(nn.Module):
    """A gated linear recurrence with an output gate. `[T, ..., D]`, state `[..., H]` -> the same."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Linear(features, 3 * hidden)
        self.out = nn.Linear(hidden, features)
        with torch.no_grad():  # time constants spread from one frame to about fifty
            self.gates.bias[:hidden] = torch.linspace(1, -4, hidden)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        z, v, gate = self.gates(x).chunk(3, dim=-1)
        if len(x) == 1 and not torch.is_grad_enabled():  # one frame of a stream, in what `torch.jit` can read
            h = torch.lerp(state, v[0], torch.sigmoid(z)[0]).unsqueeze(0)
        else:  # in the precision of the state, whatever the products were made in
            z, v = torch.sigmoid(z.to(state.dtype)), v.to(state.dtype).contiguous()
            h = Interpolate.apply(v, z, state, v.is_cuda)  # type: ignore[no-untyped-call]
        return self.out(h * nn.functional.silu(gate)), h[-1]


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


def save(network: BandSplitRNN, folder: Path, half: bool = False, **notes: str) -> Path:
    """Write `folder/model.safetensors` (weights, and the configuration as metadata) in one atomic rename."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    kind = torch.float16 if half else torch.float32
    tensors = {key: value.detach().cpu().to(kind).contiguous() for key, value in network.state_dict().items()}
    metadata = {"format": FORMAT, "config": json.dumps(asdict(network.config)), **notes}
    path, fresh = folder / "model.safetensors", folder / ".model.safetensors.part"
    save_file(tensors, str(fresh), metadata=metadata)
    fresh.chmod(0o644)
    fresh.replace(path)
    return path


def read(path: Path) -> tuple[Config, dict[str, Tensor]]:
    """Configuration and float32 weights of one file.

    Raises:
        ValueError: the file is not of this format, naming what was found.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="pt") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            weights = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path}: got format {metadata.get('format')!r}, expected {FORMAT!r}")
    try:
        return Config(**json.loads(metadata["config"])), weights
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its configuration cannot be read ({error!r})") from None


def network_from(path: Path) -> BandSplitRNN:
    """The network of one checkpoint file, strictly: every tensor there, none left over, all shapes right."""
    config, weights = read(path)
    network = BandSplitRNN(config)
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in weights.items()}
    if wanted != found:
        keys = sorted(key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key))
        told = ", ".join(f"{key}: got {found.get(key)}, expected {wanted.get(key)}" for key in keys[:5])
        raise ValueError(f"{path}: {len(keys)} tensors do not fit its own configuration ({told})")
    network.load_state_dict(weights)
    return network

"""A causal Conv-TasNet with carried state: Luo & Mesgarani 2019, arXiv 1809.07454, read from Asteroid's checkpoints.

Only inference, and only what a stream can have: the receptive field is never computed again. Between two calls a row
keeps what the next samples still need, and no more:

    wave   the last `delay` input samples, which begin the next encoder frames
    pasts  for each dilated convolution, its input over the last (P - 1) * dilation frames
    sums   for each cumulative norm (cgLN), the running sum and sum of squares in float64
    tail   the decoder's overlap-add that later frames add to

The delay, for encoder and decoder of kernel K and stride s: frame f hears x[f*s .. f*s + K - 1] and adds to y of the
same samples, so y[n] needs the frames up to n // s, and is final once H >= (n // s)*s + K samples are heard. With H a
multiple of s that is n < H - (R - 1)*s, where R = ceil(K / s). So `delay` = (R - 1)*s exactly, one stride for the usual
K = 2s. Before the first sample `delay` zeros stand in for the past, which makes R - 1 frames that whole-file inference
does not have: they are masked wherever a frame meets another one (norm sums, convolutions, overlap-add).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.convtasnet_file import ENCODER_ACT, MASK_ACT, Config, check, parse, read, true_variance
from models.fingerprint import identified
from models.separator import Spec
from streaming.framing import Array, Framing

EPS = 1e-8  # of every norm, as trained

Past = tuple[Tensor, ...]  # pieces [F, H], oldest first, at least (P - 1) * dilation frames together


@dataclass(frozen=True)
class _Block:
    """One dilated block, its pointwise convolutions as matrices; residual and skip outputs in one."""

    dilation: int
    expand: tuple[Tensor, Tensor]
    prelus: tuple[Tensor, Tensor]
    norms: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    taps: tuple[Tensor, ...]  # P of [H], oldest first
    bias: Tensor
    out: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class State:
    """One row between two calls; the module's text says what each is for. Never changed in place.

    `frames` encoder frames were computed, counted from the first that whole-file inference has.
    """

    frames: int
    wave: Tensor  # [delay]
    pasts: tuple[Past, ...]  # one a block
    sums: Tensor  # [norms, 2] float64, empty for cLN
    tail: Tensor  # [S, R - 1, stride]


def _rows(pieces: Past, start: int, stop: int) -> Tensor:
    """Rows `start .. stop` of the pieces laid end to end."""
    found = []
    for piece in pieces:
        length = piece.shape[0]
        if start < length and stop > 0:
            found.append(piece[max(start, 0) : stop])
        start, stop = start - length, stop - length
    return found[0] if len(found) == 1 else torch.cat(found)


def _convolve(block: _Block, x: Tensor, pasts: Sequence[Past]) -> tuple[Tensor, list[Past]]:
    """Causal depthwise convolution of `[B, F, H]` after the rows' pasts, as P shifted products; and the next pasts.

    A past is a queue of what earlier calls added, so that a call moves F frames and not the whole past: copying that
    (3 MB a hop in the published size) took as long as the matrix products.
    """
    n, last = x.shape[1], len(block.taps) - 1
    queues = [(*past, row) for past, row in zip(pasts, x, strict=True)]
    ends = [sum(piece.shape[0] for piece in queue) for queue in queues]
    y = torch.addcmul(block.bias, x, block.taps[last])
    for p in range(last):
        back = (last - p) * block.dilation
        rows = [_rows(queue, end - back - n, end - back) for queue, end in zip(queues, ends, strict=True)]
        y.addcmul_(torch.stack(rows) if len(rows) > 1 else rows[0][None], block.taps[p])
    keep = last * block.dilation
    return y, [_append(past, row[max(0, n - keep) :], keep) for past, row in zip(pasts, x, strict=True)]


def _append(past: Past, row: Tensor, keep: int) -> Past:
    """The past with `row` after it, less the pieces that are older than `keep` frames."""
    pieces = (*past, row.clone())
    spare = sum(piece.shape[0] for piece in pieces) - keep
    first = 0
    while first < len(pieces) - 1 and pieces[first].shape[0] <= spare:
        spare -= pieces[first].shape[0]
        first += 1
    return pieces[first:]


def _cumulative(x: Tensor, before: Tensor, seen: Tensor, valid: Tensor | None, true: bool) -> tuple[Tensor, Tensor]:
    """Normalise `[B, F, C]` by everything up to each frame (the paper, section II-D: its cLN, Asteroid's cgLN).

    Shape: before: `[B, 2]` float64, sum and sum of squares so far; seen: `[B, F]` float64, frames up to each one,
    itself included; returns `[B, F, C]` without gain and bias, and the next `before`.
    """
    both = torch.stack([x.sum(-1), torch.linalg.vecdot(x, x)], -1).double()
    if valid is not None:
        both = torch.where(valid[..., None], both, 0.0)
    sums = before[:, None] + both.cumsum(1)
    count = seen * x.shape[-1]
    mean = sums[..., 0] / count
    variance = (sums[..., 1] / (count if true else 1.0) - mean.square()).clamp(min=0.0)
    return (x - mean.float()[..., None]) * (variance + EPS).rsqrt().float()[..., None], sums[:, -1]


class ConvTasNetSeparator:
    """A `models.separator.Separator` with one state a row. `run` takes any whole number of hops at a time."""

    def __init__(self, spec: Spec, config: Config, weights: Mapping[str, Tensor], true_variance: bool = True) -> None:
        self.spec, self.config, self._true = spec, config, true_variance
        w = {k: v.detach().to(torch.float32, copy=True) for k, v in weights.items()}
        matrix = {k: v[..., 0].contiguous() for k, v in w.items() if v.ndim == 3 and v.shape[-1] == 1}

        def linear(key: str) -> tuple[Tensor, Tensor]:
            return matrix[f"{key}.weight"], w[f"{key}.bias"]

        def norm(key: str) -> tuple[Tensor, Tensor]:
            return w[f"{key}.gamma"], w[f"{key}.beta"]

        blocks = []
        for i in range(config.n_repeats * config.n_blocks):
            at = f"masker.TCN.{i}"
            shared = f"{at}.shared_block"
            outs = [linear(f"{at}.{k}_conv") for k in (("res", "skip") if config.skip_chan else ("res",))]
            depth = tuple(w[f"{shared}.3.0.weight"][:, 0].T.contiguous())
            out = (torch.cat([o[0] for o in outs]), torch.cat([o[1] for o in outs]))
            prelus = (w[f"{shared}.1.weight"], w[f"{shared}.4.weight"])
            norms = (norm(f"{shared}.2"), norm(f"{shared}.5"))
            dilation = 2 ** (i % config.n_blocks)
            blocks.append(_Block(dilation, linear(f"{shared}.0"), prelus, norms, depth, w[f"{shared}.3.0.bias"], out))
        self._blocks = tuple(blocks)
        self._encoder = w["encoder.filterbank._filters"][:, 0].contiguous()
        whole = config.delay + config.stride - config.kernel_size  # the decoder's filters, up to R whole strides
        self._decoder = F.pad(w["decoder.filterbank._filters"][:, 0], (0, whole))
        self._bottleneck = (norm("masker.bottleneck.0"), linear("masker.bottleneck.1"))
        self._mask = (w["masker.mask_net.0.weight"], linear("masker.mask_net.1"))

    def start(self) -> State:
        """The state before the first sample: nothing heard."""
        c, late = self.config, self.config.delay // self.config.stride
        silence = torch.zeros(1, c.hid_chan)
        pasts = tuple((silence.expand((c.conv_kernel_size - 1) * b.dilation, -1),) for b in self._blocks)
        sums = torch.zeros(1 + 2 * len(self._blocks) if c.norm_type == "cgLN" else 0, 2, dtype=torch.float64)
        return State(-late, torch.zeros(c.delay), pasts, sums, torch.zeros(c.n_src, late, c.stride))

    def run(self, pcm: Array, states: Sequence[State]) -> tuple[Array, list[State]]:
        """Separate the next W samples of each row, W a whole number of hops; see `models.separator.Separator`.

        Shape: pcm `[B, 1, W]` float32, never written to; returns `[B, S, 1, W]`, `delay` samples late, and the states.

        Raises:
            ValueError: W is not a whole number of hops, or the batch and the states differ.
        """
        hop = self.spec.framing.hop
        rows, channels, width = pcm.shape
        if channels != 1 or rows != len(states) or not rows or not width or width % hop:
            raise ValueError(f"pcm {pcm.shape} with {len(states)} states; wanted [B, 1, k * {hop}] with B states")
        with torch.inference_mode():
            return self._run(torch.from_numpy(np.array(pcm[:, 0], dtype=np.float32)), states)

    def _run(self, x: Tensor, states: Sequence[State]) -> tuple[Array, list[State]]:
        c = self.config
        wave = torch.cat([torch.stack([s.wave for s in states]), x], 1)
        encode = ENCODER_ACT[c.encoder_activation]
        coded = encode(wave.unfold(1, c.kernel_size, c.stride) @ self._encoder.T)  # [B, F, N]
        n = coded.shape[1]
        number = torch.tensor([s.frames for s in states])[:, None] + torch.arange(n)
        valid = None if min(s.frames for s in states) >= 0 else number >= 0
        masks, pasts, sums = self._masks(coded, states, (number + 1).clamp(min=1).double(), valid)
        masked = masks * coded[:, :, None]
        if valid is not None:
            masked = torch.where(valid[:, :, None, None], masked, 0.0)
        parts = (masked @ self._decoder).view(*masked.shape[:3], -1, c.stride)  # [B, F, S, R, stride]
        out = F.pad(torch.stack([s.tail for s in states]), (0, 0, 0, n))
        for r in range(parts.shape[3]):
            out[:, :, r : r + n] += parts[:, :, :, r].transpose(1, 2)
        stems = out[:, :, :n].reshape(len(states), c.n_src, 1, -1).contiguous().numpy()
        waves = wave[:, x.shape[1] :]
        after = [
            State(s.frames + n, waves[b].clone(), tuple(p[b] for p in pasts), sums[b].clone(), out[b, :, n:].clone())
            for b, s in enumerate(states)
        ]
        return stems, after

    def _masks(
        self, coded: Tensor, states: Sequence[State], seen: Tensor, valid: Tensor | None
    ) -> tuple[Tensor, list[list[Past]], Tensor]:
        """The temporal convolutional network: `[B, F, N]` to masks `[B, F, S, N]`, the next pasts and norm sums."""
        c = self.config
        sums = torch.stack([s.sums for s in states])  # [B, norms, 2]; a fresh copy, written below

        def norm(x: Tensor, which: int, affine: tuple[Tensor, Tensor]) -> Tensor:
            if c.norm_type == "cLN":
                return F.layer_norm(x, x.shape[-1:], *affine, EPS)
            y, sums[:, which] = _cumulative(x, sums[:, which], seen, valid, self._true)
            return torch.addcmul(affine[1], y, affine[0])

        affine, bottleneck = self._bottleneck
        trunk = F.linear(norm(coded, 0, affine), *bottleneck)
        skips = torch.zeros(())
        pasts = []
        for i, block in enumerate(self._blocks):
            x = norm(F.prelu(F.linear(trunk, *block.expand), block.prelus[0]), 2 * i + 1, block.norms[0])
            if valid is not None:  # whole-file inference pads with zeros here, after the norm
                x = torch.where(valid[..., None], x, 0.0)
            x, past = _convolve(block, x, [s.pasts[i] for s in states])
            pasts.append(past)
            x = F.linear(norm(F.prelu(x, block.prelus[1]), 2 * i + 2, block.norms[1]), *block.out)
            trunk = trunk + x[..., : c.bn_chan]
            skips = skips + x[..., c.bn_chan :]
        prelu, linear = self._mask
        scores = F.linear(F.prelu(skips if c.skip_chan else trunk, prelu), *linear)
        return MASK_ACT[c.mask_act](scores.view(*scores.shape[:2], c.n_src, c.n_filters)), pasts, sums


def load(path: Path, name: str | None = None, hop: int | None = None) -> ConvTasNetSeparator:
    """Load a causal Conv-TasNet from Asteroid's format `{model_name, model_args, state_dict, infos}`.

    Args:
        path: the checkpoint. Read without running anything of it.
        name: as asked for by clients; the file's stem by default.
        hop: samples at the model's rate, a multiple of the encoder's stride; near 16 ms by default.

    Raises:
        ValueError: the checkpoint cannot be streamed, is not safe or does not fit itself; the text says which.
    """
    found = read(Path(path))
    try:
        config = parse(found["model_args"])
        check(found["state_dict"], config)
        infos = found.get("infos") or {}
        true = config.norm_type == "cLN" or true_variance(infos)
        if hop is None:
            hop = max(1, round(0.016 * config.sample_rate / config.stride)) * config.stride
        if hop <= 0 or hop % config.stride:
            raise ValueError(f"hop {hop} is not a multiple of the encoder's stride {config.stride}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    spec = Spec(
        name=name or Path(path).stem,
        rate=config.sample_rate,
        channels=1,
        sources=tuple(f"speaker_{i + 1}" for i in range(config.n_src)),
        framing=Framing(window=hop, hop=hop, delay=config.delay),
        interchangeable=True,
        licence=str(infos.get("license") or infos.get("license_note") or "unknown"),
        memory=config.memory,
    )
    return ConvTasNetSeparator(identified(spec, found["state_dict"].items()), config, found["state_dict"], true)

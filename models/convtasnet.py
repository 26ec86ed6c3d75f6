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

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.separator import Spec
from streaming.framing import Array, Framing

EPS = 1e-8  # of every norm, as trained
ENCODER_ACT: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": F.gelu,
    "swish": F.silu,
}
# Masks are [B, F, S, N]: softmax goes over the sources.
MASK_ACT: dict[str, Callable[[Tensor], Tensor]] = {**ENCODER_ACT, "softmax": lambda x: torch.softmax(x, dim=-2)}


@dataclass(frozen=True)
class Config:
    """Asteroid's `model_args` under their own names and with their own defaults; sizes in channels, samples and Hz."""

    n_src: int
    sample_rate: int
    n_filters: int = 512
    kernel_size: int = 16
    stride: int = 8
    bn_chan: int = 128
    hid_chan: int = 512
    skip_chan: int = 128
    conv_kernel_size: int = 3
    n_blocks: int = 8
    n_repeats: int = 3
    norm_type: str = "gLN"
    mask_act: str = "sigmoid"
    encoder_activation: str = "linear"

    @property
    def delay(self) -> int:
        """Samples by which the output trails the input; derived in the module's text."""
        return (-(-self.kernel_size // self.stride) - 1) * self.stride


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int | float | np.number) and float(value).is_integer() and bool(value >= least)


def parse(args: Mapping[str, Any]) -> Config:
    """Asteroid's `model_args` as a `Config`.

    Raises:
        ValueError: what cannot be streamed, or what is not known, naming it: the checkpoint's fault.
    """
    if not args.get("causal", False):
        raise ValueError(
            "this Conv-TasNet has causal=False: it hears the future and cannot be streamed. Use a checkpoint trained "
            "with causal=True and norm_type 'cLN' or 'cgLN'; this one separates whole files only (with Asteroid)"
        )
    known = {f.name for f in fields(Config)}
    given = {k: v for k, v in args.items() if k in known and v is not None}
    filters = given.get("n_filters", 512)
    fixed = {"causal": (True,), "fb_name": ("free", "FreeFB"), "in_chan": (None, filters), "out_chan": (None, filters)}
    odd = {k: v for k, v in args.items() if k not in known and not (k in fixed and v in fixed[k])}
    if odd:
        raise ValueError(f"model_args that this implementation does not have: {odd}; fixed: {fixed}")
    if missing := {"n_src", "sample_rate"} - given.keys():
        raise ValueError(
            f"model_args lacks {sorted(missing)} (old checkpoints do: add it to model_args; never guessed)"
        )
    if args.get("stride", 8) is None:
        given["stride"] = given.get("kernel_size", 16) // 2
    numbers = {k: v for k, v in given.items() if k not in ("norm_type", "mask_act", "encoder_activation")}
    if bad := {k: v for k, v in numbers.items() if not _whole(v, least=k != "skip_chan")}:
        raise ValueError(f"model_args must be whole and positive: {bad}")
    config = Config(**{**given, **{k: int(v) for k, v in numbers.items()}})
    if config.norm_type not in ("cLN", "cgLN"):
        raise ValueError(
            f"norm_type {config.norm_type!r} needs the whole file: only 'cLN' and 'cgLN' stream. (Asteroid quietly "
            "builds 'cLN' in its place when causal=True: if this one was trained so, write 'cLN' into model_args)"
        )
    if config.mask_act not in MASK_ACT or config.encoder_activation not in ENCODER_ACT:
        raise ValueError(
            f"mask_act {config.mask_act!r} or encoder_activation {config.encoder_activation!r} is not one of "
            f"{sorted(MASK_ACT)} ('softmax' for masks only)"
        )
    if config.stride > config.kernel_size:
        raise ValueError(f"stride {config.stride} is above kernel_size {config.kernel_size}: some samples go unheard")
    return config


def shapes(c: Config) -> dict[str, tuple[int, ...]]:
    """Every key of Asteroid's `state_dict` for a causal Conv-TasNet, with its shape."""

    def conv(key: str, out: int, *inner: int) -> dict[str, tuple[int, ...]]:
        return {f"{key}.weight": (out, *inner), f"{key}.bias": (out,)}

    def norm(key: str, n: int) -> dict[str, tuple[int, ...]]:
        return {f"{key}.gamma": (n,), f"{key}.beta": (n,)}

    found: dict[str, tuple[int, ...]] = {
        "encoder.filterbank._filters": (c.n_filters, 1, c.kernel_size),
        "decoder.filterbank._filters": (c.n_filters, 1, c.kernel_size),
        **norm("masker.bottleneck.0", c.n_filters),
        **conv("masker.bottleneck.1", c.bn_chan, c.n_filters, 1),
        "masker.mask_net.0.weight": (1,),
        **conv("masker.mask_net.1", c.n_src * c.n_filters, c.skip_chan or c.bn_chan, 1),
    }
    for i in range(c.n_repeats * c.n_blocks):
        at = f"masker.TCN.{i}"
        found |= conv(f"{at}.shared_block.0", c.hid_chan, c.bn_chan, 1)
        found |= {f"{at}.shared_block.1.weight": (1,)} | norm(f"{at}.shared_block.2", c.hid_chan)
        found |= conv(f"{at}.shared_block.3.0", c.hid_chan, 1, c.conv_kernel_size)
        found |= {f"{at}.shared_block.4.weight": (1,)} | norm(f"{at}.shared_block.5", c.hid_chan)
        found |= conv(f"{at}.res_conv", c.bn_chan, c.hid_chan, 1)
        found |= conv(f"{at}.skip_conv", c.skip_chan, c.hid_chan, 1) if c.skip_chan else {}
    return found


def _check(weights: Mapping[str, Tensor], c: Config) -> None:
    want = shapes(c)
    wrong = [f"missing {k}" for k in want if k not in weights] + [f"unexpected {k}" for k in weights if k not in want]
    for key in want.keys() & weights.keys():
        value = weights[key]
        if not isinstance(value, Tensor) or tuple(value.shape) != want[key]:
            wrong.append(f"{key} is {tuple(getattr(value, 'shape', ()))}, model_args say {want[key]}")
        elif not value.is_floating_point() or not bool(value.isfinite().all()):
            wrong.append(f"{key} has values that are not finite floats")
    if wrong:
        raise ValueError("state_dict does not fit model_args: " + "; ".join(wrong))


def _unpickle(path: Path) -> dict[str, Any]:
    """The checkpoint's dict, with nothing constructed but tensors, containers, numbers, strings and numpy scalars."""
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(t)) for t in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    old = (scalar, "numpy.core.multiarray.scalar")
    allowed: list[Any] = [torch.torch_version.TorchVersion, np.dtype, scalar, old, *kinds]
    content = io.BytesIO(path.read_bytes())
    try:
        with torch.serialization.safe_globals(allowed):
            found = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen kinds; its text advises to run the file, so it is not passed on
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"it asks for {asked[1]}" if asked else f"damaged or of another format, {type(error).__name__}"
        raise ValueError(
            f"{path}: refused, nothing of it was run: not a checkpoint of plain tensors and numbers ({why})"
        ) from None
    if not isinstance(found, dict) or not all(isinstance(found.get(k), dict) for k in ("model_args", "state_dict")):
        raise ValueError(f"{path}: not an Asteroid checkpoint: no dicts 'model_args' and 'state_dict'")
    if found.get("model_name") != "ConvTasNet":
        raise ValueError(f"{path}: holds a {found.get('model_name')!r}, this loads 'ConvTasNet'")
    return found


def _true_variance(infos: Mapping[str, Any]) -> bool:
    """Whether a cgLN checkpoint was trained with the variance, or with what Asteroid took for it before 0.6.1.

    Until then the sum of squares was not divided by the count (asteroid issue 648), so that the normalised signal fades
    as one over the root of elapsed time. Such weights fit only that formula, later ones only the paper's: no guess.
    """
    version = str(infos.get("software_versions", {}).get("asteroid_version", ""))
    if not (digits := re.match(r"(\d+)\.(\d+)\.(\d+)", version)):
        raise ValueError(
            f"norm_type 'cgLN' means two things, by Asteroid's version (changed in 0.6.1), and this checkpoint says "
            f"{version!r}: write the one it was trained with into infos['software_versions']['asteroid_version']"
        )
    return tuple(map(int, digits.groups())) >= (0, 6, 1)


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
    found = _unpickle(Path(path))
    try:
        config = parse(found["model_args"])
        _check(found["state_dict"], config)
        infos = found.get("infos") or {}
        true_variance = config.norm_type == "cLN" or _true_variance(infos)
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
    )
    return ConvTasNetSeparator(spec, config, found["state_dict"], true_variance)

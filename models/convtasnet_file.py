"""Asteroid's Conv-TasNet checkpoints: `{model_name, model_args, state_dict, infos}`, read safely and checked strictly."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models import weights

ASSUMED = "0.5.2"
log = logging.getLogger(__name__)
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

    @property
    def memory(self) -> int:
        """The receptive field in samples; where cumulative norms (cgLN) remember everything, at least 8 s."""
        frames = self.n_repeats * (self.conv_kernel_size - 1) * (2**self.n_blocks - 1)
        field = frames * self.stride + 2 * self.kernel_size + self.delay
        return max(field, 8 * self.sample_rate) if self.norm_type == "cgLN" else field


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


def check(weights: Mapping[str, Tensor], c: Config) -> None:
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


def read(path: Path) -> dict[str, Any]:
    """The checkpoint's dict, read without running anything of it.

    Raises:
        ValueError: not safe, damaged, or not Asteroid's Conv-TasNet.
    """
    found = weights.unpickle(path, [torch.torch_version.TorchVersion])
    if not isinstance(found, dict) or not all(isinstance(found.get(k), dict) for k in ("model_args", "state_dict")):
        raise ValueError(f"{path}: not an Asteroid checkpoint: no dicts 'model_args' and 'state_dict'")
    if found.get("model_name") != "ConvTasNet":
        raise ValueError(f"{path}: holds a {found.get('model_name')!r}, this loads 'ConvTasNet'")
    return found


def true_variance(infos: Mapping[str, Any]) -> bool:
    """Whether a cgLN checkpoint was trained with the variance, or with what Asteroid took for it before 0.6.1.

    Until then the sum of squares was not divided by the count (asteroid issue 648), so that the normalised signal fades
    as one over the root of elapsed time. Such weights fit only that formula, later ones only the paper's. A checkpoint
    that does not say its version is taken for one of `ASSUMED`, the Asteroid that this project installs, and the log
    says so.
    """
    version = str(infos.get("software_versions", {}).get("asteroid_version", ""))
    if not (digits := re.match(r"(\d+)\.(\d+)\.(\d+)", version)):
        log.warning(
            "norm_type 'cgLN' changed in Asteroid 0.6.1 and this checkpoint says version %r: taken for %s; if it is later, "
            "write its version into infos['software_versions']['asteroid_version']",
            version,
            ASSUMED,
        )
        return False
    return tuple(map(int, digits.groups())) >= (0, 6, 1)

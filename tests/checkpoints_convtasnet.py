"""Random Conv-TasNets in Asteroid's checkpoint format, made without Asteroid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from models.convtasnet_file import parse, shapes

TINY = {"n_filters": 24, "bn_chan": 12, "hid_chan": 20, "skip_chan": 16, "n_blocks": 3, "n_repeats": 2}


def random_weights(args: dict[str, Any], seed: int) -> dict[str, torch.Tensor]:
    """Weights of unit gain, with gains and biases away from one and zero, so that a mix-up of two keys shows."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, shape in shapes(parse(args)).items():
        value = torch.randn(shape, generator=generator)
        if key.endswith(".gamma"):
            value = 1 + 0.2 * value
        elif key.endswith((".beta", ".bias")):
            value = 0.2 * value
        elif shape == (1,):  # PReLU
            value = 0.25 + 0.1 * value
        else:
            fan = shape[0] if key.startswith("decoder") else shape[1] * shape[2]
            value = value / fan**0.5
        weights[key] = value
    return weights


def make_checkpoint(path: Path, seed: int = 0, infos: dict[str, Any] | None = None, **model_args: Any) -> Path:
    """Write `{model_name, model_args, state_dict, infos}`; `model_args` override a tiny causal 8 kHz cLN model."""
    args = {"n_src": 2, "sample_rate": 8000.0, "causal": True, "norm_type": "cLN", "fb_name": "FreeFB", **TINY}
    args |= model_args
    checkpoint = {
        "model_name": "ConvTasNet",
        "model_args": args,
        "state_dict": random_weights(args, seed),
        "infos": infos or {"software_versions": {"torch_version": torch.__version__, "asteroid_version": "0.5.2"}},
    }
    torch.save(checkpoint, path)
    return path


def tiny_checkpoint(path: Path) -> Path:
    """The smallest useful one: 2 speakers, 8 kHz, cLN, 8 thousand parameters."""
    return make_checkpoint(path)

"""Random SepFormers and RE-SepFormers in SpeechBrain's folder format, made without SpeechBrain."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import torch

from models.sepformer_config import config
from models.sepformer_network import Network, theirs
from models.sepformer_yaml import read as read_yaml

LOBES = "speechbrain.lobes.models."
TINY = {"num_layers": 1, "d_model": 16, "nhead": 4, "d_ffn": 24, "dropout": 0}
TINY |= {"use_positional_encoding": True, "norm_before": True}
REAL = TINY | {"num_layers": 8, "d_model": 256, "nhead": 8, "d_ffn": 1024}
REAL_LIGHT = REAL | {"d_model": 128, "use_norm": True, "use_skip": True}
PARTS = {"Encoder": "encoder", "MaskNet": "masknet", "Decoder": "decoder"}


def make_yaml(
    rate: int = 8000,
    kernel: int = 16,
    block: dict[str, Any] = TINY,
    light: bool = False,
    bias: bool = False,
    filters: int = 0,
    **net: Any,
) -> str:
    """The text of `hyperparams.yaml`; `net` overrides the arguments of the mask net."""
    width = block["d_model"]
    filters, prefix = filters or width, f"!new:{LOBES}"
    kind = f"{prefix}resepformer.SBTransformerBlock_wnormandskip" if light else f"{prefix}dual_path.SBTransformerBlock"
    if light:
        mask = f"{prefix}resepformer.ResourceEfficientSeparator"
        arguments = {"input_dim": width, "causal": False, "num_spk": "!ref <num_spks>", "unit": 256}
        arguments |= {"segment_size": 25, "layer": 2, "mem_type": "av", "seg_model": "!ref <Within>"}
        arguments |= {"mem_model": "!ref <Across>"} | net
    else:
        mask = f"{prefix}dual_path.Dual_Path_Model"
        arguments = {"num_spks": "!ref <num_spks>", "in_channels": filters, "out_channels": width, "num_layers": 2}
        arguments |= {"K": 24, "intra_model": "!ref <Within>", "inter_model": "!ref <Across>", "norm": "ln"}
        arguments |= {"linear_layer_after_inter_intra": False, "skip_around_intra": True} | net
    speakers = net.get("num_spk", net.get("num_spks", 2))
    nodes = {
        "Encoder": (f"{prefix}dual_path.Encoder", {"kernel_size": kernel, "out_channels": filters}),
        "Within": (kind, block),
        "Across": (kind, block),
        "MaskNet": (mask, arguments),
        "Decoder": (
            f"{prefix}dual_path.Decoder",
            {"in_channels": filters, "out_channels": 1, "kernel_size": kernel, "stride": kernel // 2, "bias": bias},
        ),
    }
    lines = [f"sample_rate: {rate}", f"num_spks: {speakers}"]
    for name, (tag, told) in nodes.items():
        lines += [f"{name}: {tag}", *(f"    {key}: {_text(value)}" for key, value in told.items())]
    refs = [f"{part}: !ref <{name}>" for name, part in PARTS.items()]
    lines += ["modules:", *(f"    {ref}" for ref in refs)]
    lines += ["pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer", "    loadables:"]
    return "\n".join([*lines, *(f"        {ref}" for ref in refs)]) + "\n"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def make_folder(folder: Path, seed: int = 0, text: str | None = None, **options: Any) -> Path:
    """`hyperparams.yaml` and three files of tensors of unit gain, with gains and biases away from one and zero."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hyperparams.yaml").write_text(text or make_yaml(**options), "utf-8")
    sizes = config(read_yaml(folder / "hyperparams.yaml"))
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {theirs(name): value.shape for name, value in Network(sizes).state_dict().items()}
    rows = 100_000 if sizes.light else 2500
    state = {name: random_tensor(name, shape, rows, generator) for name, shape in shapes.items()}
    for part in PARTS.values():
        own = {name.removeprefix(f"{part}."): value for name, value in state.items() if name.startswith(f"{part}.")}
        torch.save(own, folder / f"{part}.ckpt")
    return folder


def random_tensor(name: str, shape: torch.Size, rows: int, generator: torch.Generator) -> torch.Tensor:
    if name.endswith(".pe"):
        return sinusoids(rows, shape[2])
    value = torch.randn(shape, generator=generator)
    if name.endswith("bias"):
        return 0.2 * value
    if "norm" in name:
        return 1 + 0.2 * value
    if value.numel() == 1:  # PReLU
        return 0.25 + 0.1 * value
    return value / math.prod(shape[1:] if not name.startswith("decoder") else shape[:1]) ** 0.5


@cache
def sinusoids(rows: int, width: int) -> torch.Tensor:
    """`[1, rows, width]`, sines and cosines in turn (A. Vaswani et al. 2017, section 3.5)."""
    angle = torch.arange(rows)[:, None] * torch.exp(torch.arange(0, width, 2) * -(math.log(10000.0) / width))
    return torch.stack((angle.sin(), angle.cos()), 2).flatten(1)[None]


def tiny_folder(folder: Path, light: bool = False) -> Path:
    """A small SepFormer or RE-SepFormer: 2 speakers, 8 kHz, windows of 1 to 4 s, 10 thousand parameters."""
    return make_folder(folder, light=light)

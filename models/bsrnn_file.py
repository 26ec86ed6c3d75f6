"""The checkpoint of a band-split RNN: safetensors, with its configuration as metadata."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.bsrnn import BandSplitRNN
from models.bsrnn_config import Config

FORMAT = "rivulet-bsrnn-1"


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


def exported(folder: Path) -> Path:
    """The file of weights in a folder.

    Raises:
        FileNotFoundError: there is none.
    """
    path = Path(folder) / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; expected a folder with model.safetensors in it")
    return path


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

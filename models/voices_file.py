"""The embedded weights of `silero`, `voiceprint` and `voices_network`: plain arrays, one file a network.

They are `.npz` without pickled objects, and not `.safetensors`, since a folder with those is a separator to the registry.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import nn

FOLDER = Path(__file__).with_name("embedded") / "voiceprint"
NOTES = ("licence", "source")  # texts beside the tensors
Network = TypeVar("Network", bound=nn.Module)


def load(network: Network, name: str, folder: Path = FOLDER) -> Network:
    """The network with the weights of `folder/name.npz`, for inference, in float32.

    Raises:
        FileNotFoundError: no such file, naming it.
        ValueError: tensors that do not fit, naming them.
    """
    path = folder / f"{name}.npz"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such weights; they ship with the repository")
    with np.load(path, allow_pickle=False) as file:
        found = {key: torch.from_numpy(file[key].astype(np.float32)) for key in file.files if key not in NOTES}
    wanted = {key: value.shape for key, value in network.state_dict().items()}
    wrong = sorted(
        key for key in wanted.keys() | found.keys() if key not in found or wanted.get(key) != found[key].shape
    )
    if wrong:
        raise ValueError(
            f"{path}: {len(wrong)} tensors are not those of {type(network).__name__}: {', '.join(wrong[:5])}"
        )
    network.load_state_dict(found)
    return network.eval().requires_grad_(False)


def save(network: nn.Module, name: str, notes: Mapping[str, str], folder: Path = FOLDER, half: bool = False) -> Path:
    """Write `folder/name.npz` in one rename; in half precision if asked for."""
    path = folder / f"{name}.npz"
    kind = np.float16 if half else np.float32
    arrays = {key: value.detach().cpu().numpy().astype(kind) for key, value in network.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, allow_pickle=False, **arrays, **{key: np.array(notes[key]) for key in NOTES})
    os.replace(part, path)
    return path

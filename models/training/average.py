"""The average of exported models of one run: flatter minima, so steadier on material that the run did not see.

P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018, arXiv 1803.05407.

`python -m models.training.average A B ... OUT [--shares 3 7 ...]`, each a folder with `model.safetensors`, or each a
repository of Demucs with one model.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from models import bsrnn_file, demucs_repo


@dataclass(frozen=True)
class Export:
    """A network, what has to be alike for weights to be averaged, and `save(network, folder, average=shares)`."""

    network: nn.Module
    config: object
    save: Callable[..., Path]


def average(folders: Sequence[Path], out: Path, shares: Sequence[float] | None = None) -> None:
    """Write the mean of all weights, each model with its share (alike by default), under their
    configuration; in half precision, as they were exported.

    Raises:
        ValueError: models of different configurations, or another number of shares than of models, or shares of no sum.
    """
    exports = [_read(folder) for folder in folders]
    if any(one.config != exports[0].config for one in exports):
        raise ValueError(f"got models of different configurations: {', '.join(map(str, folders))}")
    shares = shares or [1.0] * len(exports)
    if len(shares) != len(exports) or not sum(shares):
        got = ", ".join(f"{share:g}" for share in shares)
        raise ValueError(f"got shares {got}, expected {len(exports)}, one a model, whose sum is not 0")
    states = [one.network.state_dict() for one in exports]
    mean = {
        key: sum(state[key].float() * (share / sum(shares)) for state, share in zip(states, shares, strict=True))
        for key in states[0]
    }
    exports[0].network.load_state_dict(mean)
    exports[0].save(exports[0].network, out, average=" ".join(f"{share:g}" for share in shares))


def _read(folder: Path) -> Export:
    if (folder / "model.safetensors").is_file():
        network = bsrnn_file.network_from(folder / "model.safetensors")
        return Export(network, network.config, lambda net, out, **notes: bsrnn_file.save(net, out, half=True, **notes))
    bag = demucs_repo.local(folder)
    if len(bag.files) != 1:
        raise ValueError(f"{folder}: got a bag of {len(bag.files)} models, expected one")
    model = demucs_repo.read(*bag.files[0])

    name = next((path.stem for path in folder.glob("*.yaml")), folder.name)

    def save(network: Any, out: Path, **notes: str) -> Path:
        return demucs_repo.publish(network, out, name, bag.licence, **notes)

    return Export(model, model._init_args_kwargs, save)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="models.training.average", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="of the models; the last is where the mean goes")
    parser.add_argument("--shares", type=float, nargs="+", help="of each model; alike by default")
    arguments = parser.parse_args()
    if len(arguments.folders) < 3:
        parser.error(f"got {len(arguments.folders)} folders, expected at least two models and where their mean goes")
    average(arguments.folders[:-1], arguments.folders[-1], arguments.shares)

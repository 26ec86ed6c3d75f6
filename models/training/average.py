"""The average of exported models of one run: flatter minima, so steadier on material that the run did not see.

P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018, arXiv 1803.05407.

`python -m models.training.average A B ... OUT`, each a folder with `model.safetensors`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from models.bsrnn import network_from, save


def average(folders: Sequence[Path], out: Path) -> None:
    """Write the mean of all weights, under the configuration that they share; in half precision, as they were exported.

    Raises:
        ValueError: models of different configurations.
    """
    networks = [network_from(folder / "model.safetensors") for folder in folders]
    if any(network.config != networks[0].config for network in networks):
        raise ValueError(f"got models of different configurations: {', '.join(map(str, folders))}")
    states = [network.state_dict() for network in networks]
    networks[0].load_state_dict({key: torch.stack([one[key] for one in states]).mean(0) for key in states[0]})
    save(networks[0], out, half=True, average=str(len(networks)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="models.training.average", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="of the models; the last is where the mean goes")
    arguments = parser.parse_args()
    if len(arguments.folders) < 3:
        parser.error(f"got {len(arguments.folders)} folders, expected at least two models and where their mean goes")
    average(arguments.folders[:-1], arguments.folders[-1])

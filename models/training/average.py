"""The average of exported models of one run: flatter minima, so steadier on material that the run did not see.

P. Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", 2018, arXiv 1803.05407.

`python -m models.training.average A B ... OUT [--shares 3 7 ...]`, each a folder with `model.safetensors`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from models.bsrnn_file import network_from, save


def average(folders: Sequence[Path], out: Path, shares: Sequence[float] | None = None) -> None:
    """Write the mean of all weights, each model with its share (alike by default), under their
    configuration; in half precision, as they were exported.

    Raises:
        ValueError: models of different configurations, or another number of shares than of models.
    """
    networks = [network_from(folder / "model.safetensors") for folder in folders]
    if any(network.config != networks[0].config for network in networks):
        raise ValueError(f"got models of different configurations: {', '.join(map(str, folders))}")
    shares = shares or [1.0] * len(networks)
    states = [network.state_dict() for network in networks]
    mean = {
        key: sum(one[key] * (share / sum(shares)) for one, share in zip(states, shares, strict=True))
        for key in states[0]
    }
    networks[0].load_state_dict(mean)
    save(networks[0], out, half=True, average=" ".join(f"{share:g}" for share in shares))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="models.training.average", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", help="of the models; the last is where the mean goes")
    parser.add_argument("--shares", type=float, nargs="+", help="of each model; alike by default")
    arguments = parser.parse_args()
    if len(arguments.folders) < 3:
        parser.error(f"got {len(arguments.folders)} folders, expected at least two models and where their mean goes")
    average(arguments.folders[:-1], arguments.folders[-1], arguments.shares)

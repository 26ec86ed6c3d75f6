"""Networks that are exported already, as teachers of a new one: their mean is a second truth.

An ensemble distilled into one network: G. Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from models.bsrnn import BandSplitRNN
from models.bsrnn_file import exported, network_from


class Teachers:
    """Band-split RNNs with the same named stems.

    Args:
        folders: of their exports; there may be none.
        sources: the stems that are asked for, in their order.
        shares: of each teacher in the mean; alike by default.

    Raises:
        FileNotFoundError: a folder has no weights.
        ValueError: outputs without names have no mean; or other outputs, or another number of shares.
    """

    def __init__(self, folders: Sequence[Path], sources: Sequence[str], shares: Sequence[float] | None = None) -> None:
        if shares and len(shares) != len(folders):
            raise ValueError(f"got {len(shares)} shares, expected one for each of {len(folders)} teachers")
        self.shares = shares or [1.0] * len(folders)
        self.networks = [self._read(Path(folder), sources) for folder in folders]
        self.rows = [[one.config.sources.index(source) for source in sources] for one in self.networks]

    def __bool__(self) -> bool:
        return bool(self.networks)

    @staticmethod
    def _read(folder: Path, sources: Sequence[str]) -> BandSplitRNN:
        network = network_from(exported(folder)).requires_grad_(False)
        theirs = network.config.sources
        if network.config.interchangeable or sorted(theirs) != sorted(sources):
            raise ValueError(
                f"{folder}: got a teacher of {', '.join(theirs)}, expected one of stems: {', '.join(sources)}"
            )
        return network

    @torch.no_grad()
    def lesson(self, mixture: Tensor) -> Tensor:
        """What they hear, by their shares: `[B, C, T] -> [B, S, C, T]`."""
        heard = [
            share * one.to(mixture.device)(mixture)[:, rows]
            for one, share, rows in zip(self.networks, self.shares, self.rows, strict=True)
        ]
        return torch.stack(heard).sum(0) / sum(self.shares)


def nearest(told: Tensor, target: Tensor) -> Tensor:
    """Each stem of a lesson at the level at which it is nearest to the truth, `[B, S, C, T]`; at most twice its own.

    Stems that are made to add up put what they do not know somewhere; whoever need not add up is better off saying less.
    """
    level = (told * target).sum((-1, -2)) / (told.square().sum((-1, -2)) + 1e-9)
    return told * level.clamp(0, 2)[..., None, None]

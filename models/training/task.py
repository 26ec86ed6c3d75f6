"""What the training loop asks of a thing to train: all that it knows of speech, music or people."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


class Task(Protocol):
    """One thing to train.

    `batch` may run in worker processes, so a task must survive pickling (memory-mapped banks travel by name) and draw from
    nothing but the generator that it is given: the same generator, the same batch.
    """

    name: str

    def network(self) -> nn.Module:
        """A fresh network with random weights."""
        ...

    def batch(self, rng: np.random.Generator, size: int) -> tuple[NDArray[Any], ...]:
        """About `size` examples as arrays, in the order in which `loss` takes them."""
        ...

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...], progress: float) -> Tensor:
        """A scalar to minimise; `progress` is the share of the planned time that has passed, 0 to 1."""
        ...

    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """Figures on a fixed set that is never trained on; the first is the headline."""
        ...

    def export(self, network: nn.Module, folder: Path, notes: Mapping[str, str]) -> None:
        """Write the network as it ships; a reader meanwhile finds the old one or the new one."""
        ...


@runtime_checkable
class Restorable(Protocol):
    """A task that can also begin with weights that it exported."""

    def restore(self, network: nn.Module, folder: Path) -> None:
        """Put the weights that `export` wrote to `folder` into a fresh network.

        Raises:
            FileNotFoundError: there are none.
            ValueError: they are of another network, naming how it differs.
        """
        ...

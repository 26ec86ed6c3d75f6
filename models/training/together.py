"""Processes that train one network: each draws and computes a batch of its own, and all step along the mean gradient.

Two threads in one process gain little on small matrices, since they wait for each other at every operation: at 1900 frames of
192 numbers a second thread made a step of the diarizer no faster. Two processes meet once a step, over torch.distributed's gloo.

The first process is the one that was started: it alone validates, saves, hears signals and decides when to leave. Weights are
equal everywhere from the first step on, because all take the same steps.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, distributed, nn

from models.training.workers import deaf


class Together:
    """One of `count` processes, number `rank`; all meet at the file `place`."""

    def __init__(self, rank: int, count: int, place: Path) -> None:
        self.rank, self.count, self.over = rank, count, False
        distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=count)

    @torch.no_grad()
    def begin(self, network: nn.Module) -> None:
        """Take the weights of the first process."""
        for tensor in network.state_dict().values():
            distributed.broadcast(tensor, 0)

    @torch.no_grad()
    def mean(self, network: nn.Module, rate: float) -> float:
        """Gradients become their mean over all; the mean learning rate. Sets `over` when the first process left instead."""
        found = [p for p in network.parameters() if p.requires_grad]
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in found]
        told = self._sum(torch.cat([*(part.flatten() for part in parts), torch.tensor([rate, 0.0])]))
        self.over = bool(told[-1])
        for parameter, mean in zip(found, told[:-2].div(self.count).split([p.numel() for p in found]), strict=True):
            parameter.grad = mean.view_as(parameter)
        return float(told[-2]) / self.count

    def leave(self, network: nn.Module) -> None:
        """Of the first process: meet the others once more, and tell them to end."""
        size = sum(p.numel() for p in network.parameters() if p.requires_grad)
        told = torch.zeros(size + 2)
        told[-1] = 1
        self._sum(told)

    @staticmethod
    def _sum(told: Tensor) -> Tensor:
        distributed.all_reduce(told)
        return told


def _follow(work: Callable[[Together, Any], None], rank: int, count: int, place: Path, chosen: Any) -> None:
    work(Together(rank, count, place), chosen)


@contextmanager
def together(count: int, work: Callable[[Together, Any], None], chosen: Any) -> Iterator[Together | None]:
    """The first of `count` processes; the others do `work(together, chosen)` meanwhile, deaf to signals. None for one."""
    if count < 2:
        yield None
        return
    with TemporaryDirectory() as folder:
        place = Path(folder) / "meet"
        context = multiprocessing.get_context("spawn")
        with deaf():
            others = [
                context.Process(target=_follow, args=(work, rank, count, place, chosen)) for rank in range(1, count)
            ]
            for process in others:
                process.start()
        try:
            yield Together(0, count, place)
            for process in others:
                process.join(30)
        finally:
            for process in others:
                process.kill()
                process.join()
            distributed.destroy_process_group()

"""The band-split RNN as a task: mixtures in, speakers or stems out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.bsrnn import BandSplitRNN
from models.bsrnn_config import Config
from models.bsrnn_file import exported, network_from, save
from models.training.growth import grown
from models.training.losses import energy, partition_invariant, si_sdr, stems_loss
from models.training.mixing import typical_pitch
from models.training.teachers import Teachers

Audio = NDArray[np.float32]
MIDDLE_HZ = 150.0  # a lone voice below it counts as the lower one


class Mixer(Protocol):
    """Anything that draws mixtures `[B, C, T]` and what they are made of: stems in the order of the outputs, or voices
    in any order (two or more, silent where there are fewer), `[B, S, C, T]`."""

    def batch(self, rng: np.random.Generator, size: int) -> tuple[Audio, Audio]: ...


def meant(config: Config, estimate: Tensor, target: Tensor, mixture: Tensor) -> tuple[Tensor, Tensor]:
    """The loss in dB of each row, `[B]`, and what each output should have been, `[B, S, C, T]`.

    Interchangeable outputs may share the voices in the way that costs least.
    """
    if config.interchangeable:
        return partition_invariant(estimate, target, mixture)
    return stems_loss(estimate, target, mixture), target


def in_order(voices: Tensor) -> Tensor:
    """The fixed order: the first voice to one output, all others to the other. `[B, V, C, T] -> [B, 2, C, T]`."""
    return torch.stack((voices[:, 0], voices[:, 1:].sum(1)), 1)


def by_pitch(voices: Audio, rate: int) -> Audio:
    """The lowest voice first, silence last; a lone voice second unless it is low. `[V, C, T]` -> the same."""
    sounding = [v for v in range(len(voices)) if voices[v].any()]
    pitch = {v: typical_pitch(voices[v].mean(0), rate) for v in sounding}
    order = sorted(range(len(voices)), key=lambda v: pitch.get(v, np.inf))
    if len(sounding) == 1 and pitch[sounding[0]] > MIDDLE_HZ:
        order[0], order[1] = order[1], order[0]
    return voices[order]


class Separation:
    """Train a band-split RNN on a mixer's batches `(mixture [B, C, T], sources [B, S, C, T])`.

    Args:
        check: draws the fixed validation set, once.
        ordered: share of the planned time in which interchangeable outputs keep a fixed order, the lower voice first;
            then the best order counts. With the best order from random weights, both outputs long stay alike: neither
            order is better, so that gradients of one step undo those of another.
        batches: of four mixtures in the validation set.
        weights: of each stem in the loss, where stems have names; alike by default.
        teachers: folders of exported models of the same stems, whose mean this network is asked for beside the truth
            (`teachers.py`); none by default.
        shares: of each teacher in the mean; alike by default.
        taught: share of the loss that the teachers have.
    """

    def __init__(
        self,
        config: Config,
        mixer: Mixer,
        check: Mixer,
        ordered: float = 0.0,
        batches: int = 12,
        weights: Sequence[float] | None = None,
        teachers: Sequence[Path] = (),
        shares: Sequence[float] | None = None,
        taught: float = 0.5,
    ) -> None:
        if weights and len(weights) != len(config.sources):
            raise ValueError(f"got {len(weights)} weights, {config.name} has {', '.join(config.sources)}")
        self.name, self.config, self.mixer, self.ordered = config.name, config, mixer, ordered
        self.weights, self.taught = weights, taught
        self.teachers = Teachers(teachers, config.sources, shares)
        self.fixed = [check.batch(np.random.default_rng((1, k)), 4) for k in range(batches)]

    def __getstate__(self) -> dict[str, Any]:
        """What a worker needs: not the validation set, which is 49 MB, nor anybody who judges."""
        return {**self.__dict__, "fixed": [], "teachers": None}

    def network(self) -> BandSplitRNN:
        return BandSplitRNN(self.config)

    def batch(self, rng: np.random.Generator, size: int) -> tuple[Audio, Audio]:
        mixture, sources = self.mixer.batch(rng, size)
        if self.config.interchangeable and self.ordered:
            sources = np.stack([by_pitch(row, self.config.rate) for row in sources])
        return mixture, sources

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...], progress: float) -> Tensor:
        mixture, target = batch
        estimate = network(mixture)
        if self.config.interchangeable and progress < self.ordered:
            return stems_loss(estimate, in_order(target), mixture).mean()
        if not self.config.interchangeable:
            cost = stems_loss(estimate, target, mixture, self.weights).mean()
            if not self.teachers:
                return cost
            told = stems_loss(estimate, self.teachers.lesson(mixture), mixture, self.weights).mean()
            return (1 - self.taught) * cost + self.taught * told
        return meant(self.config, estimate, target, mixture)[0].mean()

    @torch.no_grad()
    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """SI-SDR improvement in dB, mean and by source, over sources that are present beside others; and the loss."""
        losses: list[float] = []
        gains: list[list[float]] = [[] for _ in self.config.sources]
        network.eval()
        for arrays in self.fixed:
            mixture, target = (torch.from_numpy(part).to(device) for part in arrays)
            estimate = network(mixture)
            costs, wanted = meant(self.config, estimate, target, mixture)
            losses += costs.tolist()
            gain = si_sdr(estimate, wanted) - si_sdr(mixture.unsqueeze(1).expand_as(wanted), wanted)
            present = energy(wanted) > 1e-3 * energy(mixture).unsqueeze(1)
            several = present & (present.sum(1, keepdim=True) > 1)
            for source, values in enumerate(gains):
                values += gain[:, source][several[:, source]].tolist()
        network.train()
        mean = float(np.mean([g for values in gains for g in values] or [0.0]))
        by_source = {name: float(np.mean(v)) for name, v in zip(self.config.sources, gains, strict=True) if v}
        return {"si_sdr_gain": mean, **by_source, "validation_loss": float(np.mean(losses))}

    def export(self, network: nn.Module, folder: Path, notes: Mapping[str, str]) -> None:
        """`folder/model.safetensors` in half precision."""
        assert isinstance(network, BandSplitRNN)
        save(network, folder, half=True, **notes)

    def restore(self, network: nn.Module, folder: Path) -> None:
        """Weights of an export; of one with fewer blocks too, as the same function."""
        old = network_from(exported(folder))
        network.load_state_dict(grown(old, replace(self.config, name=old.config.name)).state_dict())

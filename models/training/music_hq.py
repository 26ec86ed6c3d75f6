"""Hybrid Transformer Demucs (S. Rouard et al. 2023, arXiv:2211.08553) at a small width, as a task.

For those who can wait: it hears four seconds at a time, past and future. Demucs' own class is trained, and what is exported is
a Demucs repository in Demucs' own format, so that `demucs --repo FOLDER -n music-hq` runs it too.

Loss: the floored SNR of the stems (`losses.py`) against the truth and against what teachers hear (`teachers.py`), and the
distance of magnitudes at several window lengths where that is asked for: on a CPU it costs twice as much as the network.

The network is made for few steps (docs/training.md has the costs): kernels of 16 in strides of 8 in place of 8 and 4,
magnitudes with the phase of the mixture beside the waveform branch in place of complex spectra, and residual branches that
count from the start (0.1 and 1 in place of 0.001 and 0.0001).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from demucs.htdemucs import HTDemucs
from numpy.typing import NDArray
from torch import Tensor, nn

from models import demucs_repo
from models.training.data import STEMS
from models.training.losses import energy, multi_resolution_stft, si_sdr, stems_loss
from models.training.mixing import MusicMixer
from models.training.teachers import Teachers, nearest

Audio = NDArray[np.float32]
NAME, LICENCE = "music-hq", "CC-BY-4.0"
RATE = 44100
# Of a silent stem, nothing is gained beyond 10 dB below the mixture: with 20 dB, as stems that add up have it, a network that
# is free to say nothing says too little of what it is not sure of (a voice at 3.9 dB SI-SDR had 1.4 dB SDR).
FLOOR = 0.1
# 3.5 million parameters, 7.0 MB in half precision. The published one: channels 48, bottom 512, five layers, 7.8 s.
ARCHITECTURE: dict[str, Any] = {
    "sources": list(demucs_repo.STEMS),
    "channels": 48,
    "kernel_size": 16,
    "stride": 8,
    "depth": 3,
    "cac": False,
    "wiener_iters": -1,
    "end_iters": -1,
    "context": 0,
    "dconv_mode": 1,
    "dconv_comp": 4,
    "dconv_init": 0.1,
    "bottom_channels": 192,
    "t_layers": 2,
    "t_hidden_scale": 2.0,
    "t_layer_scale": False,
    "segment": Fraction(39, 10),
}


class MusicHQ:
    """Train HTDemucs on mixtures of just its segment, which is how long it says it was trained.

    Args:
        check: draws the fixed validation set, once.
        batches: of four mixtures in it.
        teachers: whose lesson, at the level at which it is nearest to the truth, is learned beside it; none by default.
        taught: share of the loss that they have.
        spectral: weight of the distance of magnitudes; at 4 both pull alike (from nothing to 10 dB the SNR falls by 10,
            this by 0.7).

    Raises:
        ValueError: a mixer of another length than the segment.
    """

    def __init__(
        self,
        mixer: MusicMixer,
        check: MusicMixer,
        batches: int = 8,
        architecture: Mapping[str, Any] | None = None,
        teachers: Teachers | None = None,
        taught: float = 0.5,
        spectral: float = 0.0,
    ) -> None:
        self.name, self.mixer = NAME, mixer
        self.teachers, self.taught, self.spectral = teachers, taught, spectral
        self.architecture = dict(architecture or ARCHITECTURE)
        length = int(self.architecture["segment"] * RATE)
        if {mixer.length, check.length} != {length}:
            raise ValueError(
                f"got mixtures of {mixer.length} and {check.length} samples, expected the segment, {length}"
            )
        self.rows = [STEMS.index(source) for source in self.architecture["sources"]]
        self.fixed = [self.arranged(*check.batch(np.random.default_rng((1, k)), 4)) for k in range(batches)]

    def __getstate__(self) -> dict[str, Any]:
        """What a worker needs: neither the validation set nor anybody who judges."""
        return {**self.__dict__, "fixed": [], "teachers": None}

    @staticmethod
    def seconds(architecture: Mapping[str, Any] = ARCHITECTURE) -> float:
        """Length of a segment."""
        return float(architecture["segment"])

    def arranged(self, mixture: Audio, stems: Audio) -> tuple[Audio, Audio]:
        """Stems in the order of the network's sources."""
        return mixture, np.ascontiguousarray(stems[:, self.rows])

    def network(self) -> HTDemucs:
        return HTDemucs(**self.architecture)

    def batch(self, rng: np.random.Generator, size: int) -> tuple[Audio, Audio]:
        return self.arranged(*self.mixer.batch(rng, size))

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...], progress: float) -> Tensor:
        mixture, target = batch
        estimate = network(mixture)
        cost = stems_loss(estimate, target, mixture, floor=FLOOR)
        if self.teachers:
            lesson = nearest(self.teachers.lesson(mixture), target)
            cost = (1 - self.taught) * cost + self.taught * stems_loss(estimate, lesson, mixture, floor=FLOOR)
        if self.spectral:
            cost = cost + self.spectral * multi_resolution_stft(estimate, target)
        return cost.mean()

    @torch.no_grad()
    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """SI-SDR improvement in dB, mean and by source, over sources that are present beside others, and their SDR; and the
        loss of stems as `music` has it."""
        losses: list[float] = []
        levels: list[float] = []
        gains: list[list[float]] = [[] for _ in self.rows]
        network.eval()
        for arrays in self.fixed:
            mixture, target = (torch.from_numpy(part).to(device) for part in arrays)
            estimate = network(mixture)
            losses += stems_loss(estimate, target, mixture).tolist()
            gain = si_sdr(estimate, target) - si_sdr(mixture.unsqueeze(1).expand_as(target), target)
            present = energy(target) > 1e-3 * energy(mixture).unsqueeze(1)
            several = present & (present.sum(1, keepdim=True) > 1)
            levels += (10 * torch.log10(energy(target) / energy(estimate - target)))[several].tolist()
            for source, values in enumerate(gains):
                values += gain[:, source][several[:, source]].tolist()
        network.train()
        by_source = zip(self.architecture["sources"], gains, strict=True)
        mean = float(np.mean([g for values in gains for g in values] or [0.0]))
        told = {name: float(np.mean(values)) for name, values in by_source if values}
        return {"si_sdr_gain": mean, **told, "sdr": float(np.mean(levels)), "validation_loss": float(np.mean(losses))}

    def export(self, network: nn.Module, folder: Path, notes: Mapping[str, str]) -> None:
        """`folder/music-hq.yaml` and the weights in half precision beside it."""
        demucs_repo.publish(network, Path(folder), NAME, LICENCE, **notes)

    def restore(self, network: nn.Module, folder: Path) -> None:
        """Weights of an export.

        Raises:
            FileNotFoundError: there are none.
            ValueError: they are of another network, naming both.
        """
        path = Path(folder) / f"{NAME}.yaml"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such model; expected a Demucs repository with {NAME}.yaml in it")
        model = demucs_repo.read(*demucs_repo.local(path).files[0])
        told = model._init_args_kwargs[1]
        if differ := [key for key, value in self.architecture.items() if told.get(key) != value]:
            got = ", ".join(f"{key} {told.get(key)} (expected {self.architecture[key]})" for key in differ)
            raise ValueError(f"{path}: got weights of a network with other {got}")
        network.load_state_dict(model.state_dict())

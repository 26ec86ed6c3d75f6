"""Hybrid Transformer Demucs (S. Rouard et al. 2023, arXiv:2211.08553) at a small width, as a task.

For those who can wait: it hears four seconds at a time, past and future. Demucs' own class is trained, and what is exported is
a Demucs repository in Demucs' own format, so that `demucs --repo FOLDER -n music-hq` runs it too.

Loss: the floored SNR of the stems (`losses.py`), and the distance of magnitudes at several window lengths, weighted such
that both pull alike: from nothing to 10 dB the first falls by 10, the second by `SPECTRAL` times 0.7.
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

Audio = NDArray[np.float32]
NAME, LICENCE = "music-hq", "CC-BY-4.0"
SPECTRAL = 4.0
RATE = 44100
# 5.3 million parameters, 10.5 MB in half precision. The published one: channels 48, bottom 512, five layers, 7.8 s.
ARCHITECTURE: dict[str, Any] = {
    "sources": list(demucs_repo.STEMS),
    "channels": 28,
    "bottom_channels": 192,
    "t_layers": 3,
    "t_hidden_scale": 2.0,
    "dconv_mode": 3,
    "segment": Fraction(39, 10),
}


class MusicHQ:
    """Train HTDemucs on mixtures of just its segment, which is how long it says it was trained.

    Args:
        check: draws the fixed validation set, once.
        batches: of four mixtures in it.

    Raises:
        ValueError: a mixer of another length than the segment.
    """

    def __init__(
        self,
        mixer: MusicMixer,
        check: MusicMixer,
        batches: int = 8,
        architecture: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.mixer = NAME, mixer
        self.architecture = dict(architecture or ARCHITECTURE)
        length = int(self.architecture["segment"] * RATE)
        if {mixer.length, check.length} != {length}:
            raise ValueError(
                f"got mixtures of {mixer.length} and {check.length} samples, expected the segment, {length}"
            )
        self.rows = [STEMS.index(source) for source in self.architecture["sources"]]
        self.fixed = [self.arranged(*check.batch(np.random.default_rng((1, k)), 4)) for k in range(batches)]

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
        spectral = multi_resolution_stft(estimate, target)
        return (stems_loss(estimate, target, mixture) + SPECTRAL * spectral).mean()

    @torch.no_grad()
    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """SI-SDR improvement in dB, mean and by source, over sources that are present beside others; and the SNR loss."""
        losses: list[float] = []
        gains: list[list[float]] = [[] for _ in self.rows]
        network.eval()
        for arrays in self.fixed:
            mixture, target = (torch.from_numpy(part).to(device) for part in arrays)
            estimate = network(mixture)
            losses += stems_loss(estimate, target, mixture).tolist()
            gain = si_sdr(estimate, target) - si_sdr(mixture.unsqueeze(1).expand_as(target), target)
            present = energy(target) > 1e-3 * energy(mixture).unsqueeze(1)
            several = present & (present.sum(1, keepdim=True) > 1)
            for source, values in enumerate(gains):
                values += gain[:, source][several[:, source]].tolist()
        network.train()
        by_source = zip(self.architecture["sources"], gains, strict=True)
        mean = float(np.mean([g for values in gains for g in values] or [0.0]))
        told = {name: float(np.mean(values)) for name, values in by_source if values}
        return {"si_sdr_gain": mean, **told, "validation_loss": float(np.mean(losses))}

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

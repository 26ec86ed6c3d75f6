"""SepFormer and RE-SepFormer as a windowed separator of speakers. Stateless: attention across chunks hears all of a window, so
each window is computed whole, and its speakers come in an order of their own (`streaming.align` puts them in one).

The network normalises each window by itself, row by row, so nothing is normalised here; SpeechBrain's `separate_file`
scales each speaker by its peak in the whole file, which no stream can.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models import sepformer_file
from models.fingerprint import identified
from models.separator import Listing, Spec
from models.sepformer_network import Config, Network
from streaming.choose import frame
from streaming.framing import Array, Framing

LADDER = (1, 1.5, 2, 3, 4)  # seconds of window on offer, each about so long; trained on whole utterances or 4 s
DEFAULT = 2  # s
FADE = 20  # a second's share of cross-fade, and of lookahead 4 times that


class SepformerSeparator:
    """A `models.separator.Separator`. `load` makes it."""

    def __init__(self, spec: Spec, network: Network, device: torch.device) -> None:
        self.spec, self.network, self.device = spec, network.to(device).eval(), device

    def start(self) -> None:
        """Stateless."""
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        """Separate windows of one length, from one frame to a minute; see `models.separator.Separator`.

        Shape: pcm `[B, 1, W]` float32, never written to; returns `[B, S, 1, W]`, and the states as they came.

        Raises:
            ValueError: a length, channel count or number of states that does not fit, naming both.
        """
        rows, channels, width = pcm.shape
        if channels != 1 or rows != len(states) or not rows:
            raise ValueError(f"got pcm {pcm.shape} with {len(states)} states, expected [B, 1, W] with B states")
        least, most = self.network.c.kernel, self.network.c.longest
        if not least <= width <= most:
            raise ValueError(f"got a window of {width} samples, {self.spec.name} takes {least} to {most}")
        with torch.inference_mode():
            mix = torch.from_numpy(np.array(pcm[:, 0], dtype=np.float32)).to(self.device)
            return self.network(mix)[:, :, None].contiguous().cpu().numpy(), list(states)


def load(source: str | Path, name: str | None = None, *, device: str | None = None) -> SepformerSeparator:
    """A model from its folder, or by a hub name that this machine's cache has.

    Args:
        source: holds `hyperparams.yaml` and three files of tensors, as SpeechBrain publishes them.
        name: for the spec; the folder's by default.
        device: of torch; by default the GPU where there is one.

    Raises:
        FileNotFoundError, ValueError: see `sepformer_file.read`; nothing of the folder was run.
    """
    found = sepformer_file.read(source)
    with torch.device("meta"):
        network = Network(found.config)
    network.load_state_dict(found.weights, strict=True, assign=True)
    network.requires_grad_(False)
    windows = _windows(found.config)
    default = min(windows, key=lambda window: abs(window - DEFAULT * found.config.rate))
    spec = Spec(
        name=name or Path(source).name,
        rate=found.config.rate,
        channels=1,
        sources=_sources(found.config),
        framing=_framing(default, found.config.rate),
        windows=windows,
        interchangeable=found.config.speakers > 1,
        licence=found.licence,
        threads=0,
    )
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return SepformerSeparator(identified(spec, found.weights.items()), network, where)


def describe(source: str | Path) -> Listing:
    """What a folder holds. Raises as `load`, but for what is wrong with its tensors."""
    config, licence = sepformer_file.describe(source)
    return Listing(_sources(config), config.rate, licence)


def _sources(c: Config) -> tuple[str, ...]:
    return tuple(f"speaker_{n + 1}" for n in range(c.speakers))


def _windows(c: Config) -> tuple[int, ...]:
    """Lengths that fill their chunks, next to the ladder's."""
    least, step = c.filling(1), c.filling(2) - c.filling(1)
    steps = (max(round((seconds * c.rate - least) / step), 0) for seconds in LADDER)
    return tuple(sorted({min(least + n * step, c.longest) for n in steps}))


def _framing(window: int, rate: int) -> Framing:
    """A quarter of the window at a time, 0.2 s of lookahead at most, 0.05 s of cross-fade."""
    fade = min(rate // FADE, window // 16)
    return frame(window, max(1, window // 4), min(4 * fade, window // 8), max(1, fade))

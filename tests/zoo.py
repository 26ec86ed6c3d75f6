"""Every model that the laws are held against: the toys, all that ship, and one of each checkpoint format made on the spot."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from toy_diarizer import BySign

from models import registry, toys
from models.chain import Chain
from models.separator import Separator
from models.speakers import Speakers
from streaming.framing import Array

MADE = (
    "made-speakers",
    "made-chain",
    "made-convtasnet",
    "made-demucs",
    "made-resepformer",
    "made-sepformer",
    "made-totatonet",
)


def names() -> list[str]:
    """By enumeration: whoever adds a model to `models/embedded` or a toy need not remember this file.

    But `music-hq`: "made-demucs" is of its class at a hundredth of its cost (the laws took it over three minutes), and
    `test_embedded.py` holds it against Demucs itself.
    """
    embedded = [name for name in registry.build() if (registry.EMBEDDED / name / "model.safetensors").is_file()]
    return [*toys.all_toys(), *embedded, *MADE]


@cache
def load(name: str) -> Separator:
    """The model of this name; read once a test run."""
    if name in toys.all_toys():
        return toys.all_toys()[name]
    if name in ("made-speakers", "made-chain"):
        both = Speakers(toys.all_toys()["toy-delay"], BySign(), name, memory=2 * 16_000)
        return Chain(toys.all_toys()["toy-leaky"], "low", both, name) if name == "made-chain" else both
    if name == "made-convtasnet":
        from checkpoints_convtasnet import tiny_checkpoint

        return registry.from_path(name, tiny_checkpoint(_folder() / "tiny.pth")).load(None)
    if name == "made-demucs":
        from checkpoints_demucs import tiny_repo

        return registry.from_path(name, tiny_repo(_folder() / "demucs")).load(None)
    if name in ("made-sepformer", "made-resepformer"):
        from checkpoints_sepformer import tiny_folder

        return registry.from_path(name, tiny_folder(_folder() / name, light="re" in name)).load(None)
    if name == "made-totatonet":
        from checkpoints_pyannote import tiny_totatonet

        return registry.from_path(name, tiny_totatonet(_folder() / "totatonet")).load(None)
    return registry.from_path(name, registry.EMBEDDED / name).load(None)


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="rivulet-zoo-"))


def audio(channels: int, samples: int, seed: int = 0) -> Array:
    """`[C, T]`: noise whose level wanders, with tones that come and go. Nothing about it stands still."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / 16_000
    level = 0.02 + 0.2 * np.abs(np.sin(2 * np.pi * 1.3 * time + rng.uniform(0, 6)))
    tone = np.sin(2 * np.pi * (220 + 60 * np.sin(2 * np.pi * 0.7 * time)) * time) * (np.sin(2 * np.pi * 2 * time) > 0)
    noise = rng.standard_normal((channels, samples))
    return np.asarray(level * (0.5 * noise + tone), np.float32)

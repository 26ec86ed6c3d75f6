"""Random Demucs models in Demucs' own files. The published sizes: `python -m models.demucs_repo FOLDER`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from models.demucs_repo import STEMS, random_repo, write_random

# Without layer scales, which start near zero, and with larger weights, so that all parts show in the output.
LOUD: dict[str, Any] = {"channels": 4, "dconv_init": 0.5, "dconv_comp": 2, "rescale": 0.7}
TINY: dict[str, Any] = LOUD | {
    "t_layers": 2,
    "t_heads": 2,
    "t_layer_scale": False,
    "dconv_mode": 3,
    "segment": Fraction(8, 5),
}
NAMES = (*STEMS, "guitar", "piano")


def tiny_repo(folder: Path, name: str = "tiny", stems: int = 4, bag: bool = False, **architecture: Any) -> Path:
    """A folder with `name.yaml` and a transformer of 140 thousand parameters, segment 1.6 s; `bag`: one a stem, one-hot."""
    count = stems if bag else 1
    for part in range(count):
        write_random(folder, f"{name}{part}", seed=part, sources=[*NAMES[:stems]], **(TINY | architecture))
    write_yaml(
        folder, name, count, [[float(part == stem) for stem in range(stems)] for part in range(count)] if bag else None
    )
    return folder


def tiny_hdemucs(folder: Path, name: str = "tiny_hybrid", segment: float = 1.6) -> Path:
    """The same of Hybrid Demucs, which has LSTMs and local attention in place of the transformer."""
    write_random(folder, f"{name}0", kind="HDemucs", sources=[*STEMS], segment=segment, **LOUD)
    write_yaml(folder, name, 1)
    return folder


def write_yaml(folder: Path, name: str, count: int, weights: list[list[float]] | None = None, extra: str = "") -> Path:
    """A bag of `name0`, `name1`, ..."""
    path = folder / f"{name}.yaml"
    told = f"models: {[f'{name}{part}' for part in range(count)]}\n"
    path.write_text(told + (f"weights: {weights}\n" if weights else "") + extra)
    return path


def published_repo(folder: Path, name: str = "htdemucs") -> Path:
    """The architecture of a published model, for benchmarks: 42 million random parameters, 84 MB."""
    return random_repo(folder, name)

"""Demucs' files: `signature-checksum.th` (one model) and `name.yaml` (a bag of them), as its `--repo` folders hold them.

A `.th` is read with an allow-list of what Demucs writes: its two classes by name, fractions, numbers and tensors.

`python -m models.demucs_repo FOLDER` writes such files with random weights of the published sizes, for benchmarks.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from models import weights

STEMS = ("drums", "bass", "other", "vocals")
_HYBRID: dict[str, Any] = {
    "sources": [*STEMS],
    "channels": 48,
    "t_layers": 5,
    "dconv_mode": 3,
    "segment": Fraction(39, 5),
}
ARCHITECTURES: dict[str, dict[str, Any]] = {  # of the published checkpoints: 42.0, 27.4 and 83.6 million parameters
    "htdemucs": _HYBRID | {"bottom_channels": 512},
    "htdemucs_6s": _HYBRID | {"sources": [*STEMS, "guitar", "piano"]},
    "hdemucs_mmi": {"sources": [*STEMS], "channels": 48, "dconv_init": 1e-3, "segment": 44},
}


@dataclass(frozen=True)
class Bag:
    """Sub-models and how they are averaged.

    Attributes:
        files: each with its SHA-256 or its first digits; empty where the name has none.
        weights: `[models][sources]`; all ones by default.
        segment: seconds of training segment that the bag asks for.
        sources: where they are known before reading.
        rate, channels: Hz and count, likewise; 0 where they are not known.
        licence: of the weights, where it is told.
    """

    files: tuple[tuple[Path, str], ...]
    weights: Sequence[Sequence[float]] | None = None
    segment: float | None = None
    sources: tuple[str, ...] | None = None
    rate: int = 0
    channels: int = 0
    licence: str = "unknown"


def split(path: Path) -> tuple[str, str]:
    """Signature and checksum of `signature-checksum.th`; the latter may be empty."""
    found = re.fullmatch(r"(.+)-([0-9a-f]{8,64})", path.stem)
    return (found[1], found[2]) if found else (path.stem, "")


def local(path: Path) -> Bag:
    """The model of a `.th` file, of a bag's `.yaml`, or of a folder that holds just one.

    Raises:
        ValueError: nothing of Demucs, or more than one model; the text says what to name instead.
    """
    if path.is_dir():
        found = sorted(path.glob("*.yaml")) or sorted(path.glob("*.th"))
        if len(found) != 1:
            names = ", ".join(file.name for file in found) or "no .yaml and no .th"
            raise ValueError(f"{path}: got {names}; expected one model, or the path of one of them")
        path = found[0]
    if path.suffix == ".th":
        return Bag(((path, split(path)[1]),))
    if path.suffix != ".yaml":
        raise ValueError(f"got {path}, expected a .th or .yaml file of Demucs, or a folder with one model")
    return _bag(path)


def _bag(path: Path) -> Bag:
    """A bag's yaml: `models` (signatures of files beside it), and `weights` and `segment` (seconds) where given.

    Beside what Demucs reads it may hold `about` (licence, sources, samplerate, audio_channels): then a list of models need
    not read the weights.
    """
    import yaml

    try:
        told = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not plain YAML: {error}") from error
    models = told.get("models") if isinstance(told, Mapping) else None
    if not isinstance(models, list) or not models or not all(isinstance(model, str) for model in models):
        raise ValueError(f"{path}: got models {models!r}, expected a list of signatures")
    matrix, segment = told.get("weights"), told.get("segment")
    if segment is not None and not (isinstance(segment, int | float) and 0 < segment < float("inf")):
        raise ValueError(f"{path}: got segment {segment!r}, expected seconds")
    rows = matrix if isinstance(matrix, list) else []
    numbers = all(isinstance(row, list) and all(isinstance(value, int | float) for value in row) for row in rows)
    if matrix is not None and not (numbers and len(rows) == len(models) and len({len(row) for row in rows}) == 1):
        raise ValueError(f"{path}: got weights {matrix!r}, expected a row of numbers for each of {len(models)} models")
    here = sorted(path.parent.glob("*.th"))
    beside = {model: [file for file in here if split(file)[0] == model] for model in models}
    if wrong := [f"{model}: {[file.name for file in files]}" for model, files in beside.items() if len(files) != 1]:
        raise ValueError(f"{path}: expected one .th file beside it for each model, got {'; '.join(wrong)}")
    files = tuple((beside[model][0], split(beside[model][0])[1]) for model in models)
    return Bag(files, matrix, segment, *_about(path, told.get("about") or {}))


def _about(path: Path, told: Any) -> tuple[tuple[str, ...] | None, int, int, str]:
    """Sources, rate, channels and licence, where they are told."""
    kinds = {"sources": list, "samplerate": int, "audio_channels": int, "licence": str}
    fits = isinstance(told, Mapping) and all(isinstance(told.get(key, kind()), kind) for key, kind in kinds.items())
    if not fits or not all(isinstance(source, str) for source in told.get("sources", ())):
        raise ValueError(f"{path}: got about {told!r}, expected sources, samplerate, audio_channels, licence")
    sources = tuple(told["sources"]) if "sources" in told else None
    return sources, told.get("samplerate", 0), told.get("audio_channels", 0), told.get("licence", "unknown")


def read(path: Path, expected: str) -> Any:
    """One `HTDemucs` or `HDemucs` in evaluation mode that takes windows of any length, without randomness.

    Raises:
        ValueError: not a checkpoint of these, or not a safe one. WeightsError: not the expected checksum.
    """
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs
    from demucs.states import load_model

    if expected:
        weights.verify(path, expected)
    package = weights.unpickle(path, [HTDemucs, HDemucs, Fraction])
    keys = {"klass", "args", "kwargs", "state"}
    if not isinstance(package, dict) or not keys <= package.keys() or not isinstance(package["state"], dict):
        got = sorted(map(str, package)) if isinstance(package, dict) else type(package).__name__
        raise ValueError(f"{path}: got {got}, expected a dict with {', '.join(sorted(keys))}")
    if package["klass"] not in (HTDemucs, HDemucs):
        raise ValueError(f"{path}: got a {package['klass']!r}, expected HTDemucs or HDemucs")
    if "__quantized" in package["state"]:  # demucs would end the process for want of diffq
        raise ValueError(f"{path}: got quantised weights (DiffQ), expected plain ones")
    try:
        model = load_model(package)  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever a constructor may raise on arguments from a file
        raise ValueError(f"{path}: architecture and weights do not fit: {error}") from error
    if broken := [key for key, value in model.state_dict().items() if not bool(value.isfinite().all())]:
        raise ValueError(f"{path}: weights that are not finite: {', '.join(broken[:3])}")
    if isinstance(model, HTDemucs):
        model.use_train_segment = False  # else shorter windows are padded, and cost as much as the longest
        if model.crosstransformer is not None:
            model.crosstransformer.sin_random_shift = 0  # a training aid that is drawn in evaluation too
    return model.eval()


def write(model: Any, folder: Path, signature: str) -> Path:
    """Write `signature-checksum.th` in half precision, as published and by Demucs' own means; its path."""
    from demucs import states

    args, kwargs = model._init_args_kwargs
    state = states.get_state(model, None, half=True)  # type: ignore[no-untyped-call]
    package = {"klass": type(model), "args": args, "kwargs": kwargs, "state": state, "training_args": {}}
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.glob(f"{signature}-*.th"))
    states.save_with_checksum(package, folder / f"{signature}.th")  # type: ignore[no-untyped-call]
    return next(iter(set(folder.glob(f"{signature}-*.th")) - before), *before)


def publish(model: Any, folder: Path, name: str, licence: str, **notes: str) -> Path:
    """A Demucs repository of one model: `name.yaml` and its `.th`, whose signature is a checksum of the weights.

    Whoever reads meanwhile finds the old model or the new one: the yaml is replaced in one rename, and only then files that
    it no longer names are removed. Returns the path of the yaml.
    """
    import yaml

    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.detach().cpu().half().contiguous().numpy().tobytes())
    signature = digest.hexdigest()[:8]
    kept = write(model, folder, signature)
    about = {"licence": licence, "sources": list(model.sources)}
    about |= {"samplerate": model.samplerate, "audio_channels": model.audio_channels}
    path, fresh = folder / f"{name}.yaml", folder / f".{name}.yaml.part"
    fresh.write_text(yaml.safe_dump({"models": [signature], "about": about | notes}, sort_keys=False), "utf-8")
    fresh.replace(path)
    for old in folder.glob("*.th"):
        if old != kept:
            old.unlink()
    return path


def write_random(folder: Path, signature: str, seed: int = 0, kind: str = "HTDemucs", **architecture: Any) -> Path:
    """Write `signature-checksum.th` with random weights of this architecture."""
    import torch
    from demucs import hdemucs, htdemucs

    classes = {"HTDemucs": htdemucs.HTDemucs, "HDemucs": hdemucs.HDemucs}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = classes[kind](**architecture)
    return write(model, folder, signature)


def random_repo(folder: Path, name: str) -> Path:
    """A folder as published under this name, `htdemucs_ft` included, but with random weights."""
    parts = len(STEMS) if name == "htdemucs_ft" else 1
    architecture = ARCHITECTURES["htdemucs" if name == "htdemucs_ft" else name]
    kind = "HDemucs" if name.startswith("hdemucs") else "HTDemucs"
    for part in range(parts):
        write_random(folder, f"random{part}", seed=part, kind=kind, **architecture)
    text = f"models: {[f'random{part}' for part in range(parts)]}\n"
    if parts > 1:
        text += f"weights: {[[float(part == stem) for stem in range(parts)] for part in range(parts)]}\n"
    (folder / f"{name}.yaml").write_text(text, "utf-8")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a Demucs repository with random weights of a published size.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", choices=[*ARCHITECTURES, "htdemucs_ft"], default="htdemucs")
    given = parser.parse_args()
    print(random_repo(given.folder, given.name))

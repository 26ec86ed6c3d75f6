"""The Demucs family: Hybrid Transformer Demucs (Rouard et al. 2023, arXiv 2211.08553), Hybrid Demucs (2111.03600).

Demucs' own classes compute; here is what a stream needs around them: checkpoints read without running anything of
them, only the sub-models of a bag that the wanted stems need, and windows shorter than the training segment. Stateless.

Each forward normalises its own window by mean and deviation, in both branches and row by row, so nothing is normalised
here. HTDemucs pads what is shorter than its training segment up to it and computes that; `use_train_segment` is
therefore turned off, and a window costs by its length. Longer than the segment was never trained, so it is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import weights
from models.separator import Spec
from streaming.choose import frame
from streaming.framing import Array

if TYPE_CHECKING:
    import torch

FOLDER = "demucs"  # in the cache
ROOT = "https://dl.fbaipublicfiles.com/demucs/hybrid_transformer/"
LICENCE = (
    "unclear: the author says the weights are for research only (facebookresearch/demucs issues 327 and 508), "
    "their later copies on a model hub are marked MIT"
)
STEMS = ("drums", "bass", "other", "vocals")
LADDER = (1.0, 1.5, 2.0, 2.5, 3.0, 3.9, 5.0, 7.8, 10.0)  # seconds of window on offer, up to the training segment


@dataclass(frozen=True)
class Published:
    """A model that Demucs' authors published: its sources, and its files with their SHA-256 (or its first digits)."""

    sources: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    weights: tuple[tuple[float, ...], ...] | None = None
    segment: float | None = None


# File names, weights and segment: demucs 4.1 remote/*.yaml and files.txt. The name ends in the checksum's first digits.
PUBLISHED: dict[str, Published] = {
    "htdemucs": Published(
        STEMS, (("955717e8-8726e21a.th", "8726e21a993978c7ba086d3872e7608d7d5bfca646ca4aca459ffda844faa8b4"),)
    ),
    "htdemucs_ft": Published(
        STEMS,
        (
            ("f7e0c4bc-ba3fe64a.th", "ba3fe64ae8ef66ac9a4857222ce48efbdc5eb3ad375cb79dd13debee5aaa4066"),
            ("d12395a8-e57c48e6.th", "e57c48e6b0e38af4f7118d7bd08c49f0a0c0edf7d09143bdd902ea0d237303e6"),
            ("92cfc3b6-ef3bcb9c.th", "ef3bcb9c8b40d14ae5d51b6db2587339cc12c6b77c0be151ce6d69002e087bf2"),
            ("04573f0d-f3cf25b2.th", "f3cf25b222c4eed7cd49dd8b2c9597d50c18bd154090f7b919cfa5f93cf22c49"),
        ),
        weights=((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
    ),
    "htdemucs_6s": Published(
        (*STEMS, "guitar", "piano"),
        (("5c90dfd2-34c22ccb.th", "34c22ccb381c6f9fdbf324f04e1e2fe21aaaf293f5ded163a162697ff9a02ddd"),),
    ),
    "hdemucs_mmi": Published(STEMS, (("75fc33f5-1941ce65.th", "1941ce65"),), segment=44),
}


@dataclass(frozen=True)
class Listing:
    """A published model as a catalogue shows it: `present` means all its files are here, `selective` that fewer stems
    cost less."""

    name: str
    sources: tuple[str, ...]
    rate: int
    channels: int
    licence: str
    files: tuple[str, ...]
    present: bool
    selective: bool


@dataclass(frozen=True)
class Bag:
    """Sub-models and how they are averaged: files with checksums, `weights` of each `[models][sources]`, seconds of
    training segment, and the sources where they are known before reading."""

    files: tuple[tuple[Path, str], ...]
    weights: Sequence[Sequence[float]] | None = None
    segment: float | None = None
    sources: tuple[str, ...] | None = None


def catalogue() -> list[Listing]:
    """The published models, without loading torch."""
    return [
        Listing(
            name=name,
            sources=model.sources,
            rate=44_100,
            channels=2,
            licence=LICENCE,
            files=tuple(file for file, _ in model.files),
            present=all(weights.find(file, FOLDER) for file, _ in model.files),
            selective=model.weights is not None,
        )
        for name, model in PUBLISHED.items()
    ]


def fetch(
    name: str, progress: weights.Progress = weights.silent, sources: Sequence[str] | None = None, root: str = ROOT
) -> list[Path]:
    """Download a published model into the cache, or only the sub-models for these sources.

    Raises:
        ValueError: an unknown name or source. WeightsError: see `weights.fetch`.
    """
    model = _published(name)
    wanted = _needed(_plan(model.sources, sources), model.weights, len(model.files))
    return [
        weights.find(file, FOLDER) or weights.fetch(root + file, weights.cache(FOLDER, file), digest, progress)
        for file, digest in (model.files[index] for index in wanted)
    ]


def load(
    name_or_path: str | Path,
    sources: Sequence[str] | None = None,
    *,
    name: str | None = None,
    device: str | None = None,
) -> DemucsSeparator:
    """A published model by name, or a local one: a `.th` file, a bag's `.yaml`, or a folder with just one of them.

    Args:
        sources: outputs, in this order: the model's own, or `no_<source>`, the mixture without it. All its own by
            default. Of a bag only the sub-models that these need are read and run.
        name: for the spec; by default the published name or the file's.
        device: of torch; by default the GPU where there is one.

    Raises:
        ValueError: unknown name or source, or a checkpoint that cannot be used; nothing of it was run.
        WeightsError: files that are missing or damaged.
    """
    if name_or_path in PUBLISHED:
        bag, path = _in_cache(str(name_or_path), sources), Path(name_or_path)
    else:
        path = Path(name_or_path)
        if not path.exists():
            raise ValueError(f"got {str(name_or_path)!r}, which is neither a path nor one of {', '.join(PUBLISHED)}")
        bag = _local(path)
    title = name or (path.name if path.is_dir() else _split(path)[0])
    return _assemble(title, bag, sources, device, LICENCE if name_or_path in PUBLISHED else "unknown")


def _assemble(name: str, bag: Bag, asked: Sequence[str] | None, device: str | None, licence: str) -> DemucsSeparator:
    import torch

    loaded = {} if bag.sources else {0: _read(*bag.files[0])}
    known = bag.sources or tuple(loaded[0].sources)
    matrix = np.asarray(bag.weights or np.ones((len(bag.files), len(known))), np.float64)
    if matrix.shape != (len(bag.files), len(known)) or not np.isfinite(matrix).all():
        raise ValueError(f"{name}: got weights {matrix.tolist()}, expected {len(bag.files)} x {len(known)} numbers")
    plan = _plan(known, asked)
    columns = sorted({index for index, _ in plan})
    if empty := [known[column] for column in columns if not matrix[:, column].sum()]:
        raise ValueError(f"{name}: the weights of {empty} add up to nothing: {matrix.tolist()}")
    parts = {index: loaded.get(index) or _read(*bag.files[index]) for index in _needed(plan, matrix, len(bag.files))}
    first = next(iter(parts.values()))
    for index, model in parts.items():
        kind = (tuple(model.sources), model.samplerate, model.audio_channels)
        if kind != (known, first.samplerate, first.audio_channels):
            raise ValueError(f"{bag.files[index][0]}: got {kind}, expected {known} like the rest of the bag")
    limit = min(int(_segment(model, bag.segment) * model.samplerate) for model in parts.values())
    windows = _windows(limit, first.samplerate, first.hop_length)
    spec = Spec(
        name=name,
        rate=first.samplerate,
        channels=first.audio_channels,
        sources=tuple(asked or known),
        framing=_default(windows[-1], first.samplerate, first.hop_length),
        windows=windows,
        licence=licence,
        threads=0,
    )
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    models = [(model.to(where), matrix[index, columns].tolist()) for index, model in parts.items()]
    outputs = [(columns.index(index), without) for index, without in plan]
    return DemucsSeparator(spec, models, columns, outputs, (first.nfft, limit), where)


class DemucsSeparator:
    """A `models.separator.Separator`: one or several Demucs models, averaged source by source. `load` makes it."""

    def __init__(
        self,
        spec: Spec,
        models: Sequence[tuple[Any, Sequence[float]]],
        columns: Sequence[int],
        outputs: Sequence[tuple[int, bool]],
        lengths: tuple[int, int],
        device: torch.device,
    ) -> None:
        import torch

        self.spec, self.lengths, self.device = spec, lengths, device
        self.models = [model for model, _ in models]
        self._shares = [torch.tensor(share, device=device)[:, None, None] for _, share in models]
        self._total = torch.tensor([sum(part) for part in zip(*(s for _, s in models), strict=True)], device=device)
        self._columns, self._outputs = list(columns), outputs

    def start(self) -> None:
        """Stateless."""
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        """Separate windows of any one length up to the training segment; see `models.separator.Separator`.

        Shape: pcm `[B, C, W]` float32, never written to; returns `[B, S, C, W]` and the states as they came.

        Raises:
            ValueError: a length, channel count or number of states that does not fit, naming both.
        """
        import torch

        rows, channels, width = pcm.shape
        least, most = self.lengths
        if channels != self.spec.channels or rows != len(states) or not rows:
            raise ValueError(
                f"got pcm {pcm.shape} and {len(states)} states, expected [B, {self.spec.channels}, W] and B"
            )
        if not least <= width <= most:
            raise ValueError(
                f"got a window of {width} samples, {self.spec.name} takes {least} to {most}, its training segment"
            )
        with torch.inference_mode():
            mix = torch.from_numpy(np.array(pcm, dtype=np.float32)).to(self.device)
            stems = mix.new_zeros(rows, len(self._columns), channels, width)
            for model, share in zip(self.models, self._shares, strict=True):
                stems += model(mix)[:, self._columns] * share
            stems /= self._total[:, None, None]  # as demucs.apply does: sum, then divide
            out = [mix - stems[:, index] if without else stems[:, index] for index, without in self._outputs]
            return torch.stack(out, dim=1).cpu().numpy(), list(states)


def _published(name: str) -> Published:
    if name not in PUBLISHED:
        raise ValueError(f"got model {name!r}, expected one of {', '.join(PUBLISHED)}")
    return PUBLISHED[name]


def _plan(known: Sequence[str], asked: Sequence[str] | None) -> list[tuple[int, bool]]:
    """For each output the index of its source, and whether it is the mixture without it."""
    plan = []
    for source in known if asked is None else asked:
        stem = source if source in known else source.removeprefix("no_")
        if stem not in known:
            raise ValueError(f"got source {source!r}, this model has {', '.join(known)}, and no_<source> of each")
        plan.append((list(known).index(stem), stem != source))
    if not plan or len(set(plan)) < len(plan):
        raise ValueError(f"got sources {asked}, expected at least one and each once")
    return plan


def _needed(plan: Sequence[tuple[int, bool]], matrix: Any, count: int) -> list[int]:
    """The sub-models that add something to the planned sources."""
    return [m for m in range(count) if matrix is None or any(matrix[m][index] for index, _ in plan)]


def _windows(limit: int, rate: int, hop: int) -> tuple[int, ...]:
    """Lengths on offer: whole STFT hops below the training segment, and the segment itself where the ladder reaches it."""
    steps = [round(seconds * rate / hop) * hop for seconds in LADDER]
    below = [step for step in steps if step < 0.99 * limit]
    return tuple(below) if limit > LADDER[-1] * rate else (*below, limit)


def _default(window: int, rate: int, hop: int) -> Any:
    """A quarter of the window told at a time, with up to 0.5 s of lookahead and 0.05 s of cross-fade."""
    return frame(window, max(1, window // 4 // hop) * hop, min(rate // 2, window // 8), min(rate // 20, window // 64))


def _segment(model: Any, override: float | None) -> Any:
    """Seconds, as demucs.apply.BagOfModels overrides them: a transformer's only downwards."""
    use = override is not None and (not hasattr(model, "use_train_segment") or override <= model.segment)
    return override if use else model.segment


def _in_cache(name: str, asked: Sequence[str] | None) -> Bag:
    model = _published(name)
    files = [(weights.find(file, FOLDER) or weights.cache(FOLDER, file), digest) for file, digest in model.files]
    wanted = _needed(_plan(model.sources, asked), model.weights, len(files))
    if missing := [files[index][0] for index in wanted if not files[index][0].is_file()]:
        raise weights.WeightsError(
            f"{name} is not on this machine: no {', '.join(path.name for path in missing)} in {missing[0].parent}; "
            f"fetch {name} first, or put the files there"
        )
    return Bag(tuple(files), model.weights, model.segment, model.sources)


def _split(path: Path) -> tuple[str, str]:
    """Signature and checksum of `signature-checksum.th`; the latter may be absent."""
    found = re.fullmatch(r"(.+)-([0-9a-f]{8,64})", path.stem)
    return (found[1], found[2]) if found else (path.stem, "")


def _local(path: Path) -> Bag:
    """What a file or folder holds.

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
        return Bag(((path, _split(path)[1]),))
    if path.suffix != ".yaml":
        raise ValueError(f"got {path}, expected a .th or .yaml file of Demucs, or a folder of them")
    return _bag(path)


def _bag(path: Path) -> Bag:
    """A bag's yaml: `models` (signatures of files beside it), `weights` and `segment` (seconds) where given."""
    import yaml

    try:
        told = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not plain YAML: {error}") from error
    models = told.get("models") if isinstance(told, Mapping) else None
    if not isinstance(models, list) or not models or not all(isinstance(model, str) for model in models):
        raise ValueError(f"{path}: got models {models!r}, expected a list of signatures")
    segment, matrix = told.get("segment"), told.get("weights")
    if segment is not None and not (isinstance(segment, int | float) and segment > 0):
        raise ValueError(f"{path}: got segment {segment!r}, expected seconds")
    if matrix is not None and not (
        isinstance(matrix, list)
        and all(isinstance(row, list) and all(isinstance(value, int | float) for value in row) for row in matrix)
        and len({len(row) for row in matrix}) == 1
    ):
        raise ValueError(f"{path}: got weights {matrix!r}, expected a row of numbers a model")
    here: dict[str, list[Path]] = {}
    for file in sorted(path.parent.glob("*.th")):
        here.setdefault(_split(file)[0], []).append(file)
    if wrong := [
        f"{model}: {[file.name for file in here.get(model, [])]}" for model in models if len(here.get(model, [])) != 1
    ]:
        raise ValueError(f"{path}: expected one .th file beside it for each model, got {'; '.join(wrong)}")
    return Bag(tuple((here[model][0], _split(here[model][0])[1]) for model in models), matrix, segment)


def _read(path: Path, expected: str) -> Any:
    """One Demucs model in evaluation mode, checked against its checksum where it has one."""
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs
    from demucs.states import load_model

    if expected:
        weights.verify(path, expected)
    package = _unpickle(path)
    state = package["state"]
    if package["klass"] not in (HTDemucs, HDemucs):
        raise ValueError(f"{path}: got a {package['klass']!r}, expected HTDemucs or HDemucs")
    if "__quantized" in state:  # demucs would end the process for want of diffq
        raise ValueError(f"{path}: got quantised weights (DiffQ), expected plain ones")
    if broken := [key for key, value in state.items() if not bool(value.isfinite().all())]:
        raise ValueError(f"{path}: weights that are not finite: {', '.join(broken[:3])}")
    try:
        model = load_model(package)
    except (RuntimeError, TypeError, ValueError, AssertionError, ArithmeticError) as error:
        raise ValueError(f"{path}: weights and architecture do not fit: {error}") from error
    if isinstance(model, HTDemucs):
        model.use_train_segment = False
        if model.crosstransformer is not None:
            model.crosstransformer.sin_random_shift = 0  # drawn even in evaluation; a training aid
    return model.eval()


def _unpickle(path: Path) -> dict[str, Any]:
    """A checkpoint's dict with nothing constructed but tensors, containers, numbers, and the names of Demucs' classes."""
    from fractions import Fraction

    import torch
    from demucs.hdemucs import HDemucs
    from demucs.htdemucs import HTDemucs

    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    old = (scalar, "numpy.core.multiarray.scalar")
    allowed: list[Any] = [HTDemucs, HDemucs, Fraction, np.dtype, scalar, old, *kinds]
    try:
        with torch.serialization.safe_globals(allowed):
            found = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises a dozen kinds; its text advises to run the file, so it is not passed on
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        why = f"it asks for {asked[1]}" if asked else f"damaged or of another format, {type(error).__name__}"
        raise ValueError(f"{path}: refused, nothing of it was run: not a plain Demucs checkpoint ({why})") from None
    keys = {"klass", "args", "kwargs", "state"}
    if not isinstance(found, dict) or not keys <= found.keys() or not isinstance(found["state"], dict):
        got = sorted(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{path}: got {got}, expected a dict with {sorted(keys)}")
    return found

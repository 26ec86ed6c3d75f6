"""The Demucs family: Hybrid Transformer Demucs (Rouard et al. 2023, arXiv 2211.08553), Hybrid Demucs (2111.03600).

Demucs' own classes compute; here is what a stream needs around them: only the sub-models of a bag that the wanted stems
need, windows shorter than the training segment, rows of many sessions in one forward. Stateless.

Each forward normalises its own window by mean and deviation, in both branches and row by row, so nothing is normalised
here. HTDemucs by itself pads a shorter window up to its training segment and computes that; it is told not to, so a
window costs by its length. Longer than the segment was never trained, and is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import demucs_repo, weights
from models.demucs_repo import STEMS, Bag
from models.fingerprint import identified
from models.separator import Spec
from streaming.choose import frame
from streaming.framing import Array, Framing

if TYPE_CHECKING:
    import torch

FOLDER = "demucs"  # in the cache
ROOT = "https://dl.fbaipublicfiles.com/demucs/hybrid_transformer/"
LICENCE = (
    "unclear: the author says the weights are for research only (facebookresearch/demucs issues 327 and 508), "
    "their later copies on a model hub are marked MIT"
)
LADDER = (1.0, 1.5, 2.0, 2.5, 3.0, 3.9, 5.0, 7.8, 10.0)  # seconds of window on offer, up to the training segment


@dataclass(frozen=True)
class Published:
    """A model that Demucs' authors published; its files with their SHA-256 (or its first digits)."""

    sources: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    weights: tuple[tuple[float, ...], ...] | None = None
    segment: float | None = None


# Names, weights and segment are demucs 4.1's `remote/`. A file's name ends in the first digits of its checksum.
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
    """A model as a catalogue shows it. `present`: all its files are here; `selective`: fewer sources cost less."""

    name: str
    sources: tuple[str, ...]
    rate: int
    channels: int
    licence: str
    files: tuple[str, ...]
    present: bool
    selective: bool


def catalogue() -> list[Listing]:
    """The published models; imports no torch."""
    return [
        Listing(
            name=name,
            sources=model.sources,
            rate=44_100,
            channels=2,
            licence=LICENCE,
            files=tuple(file for file, _ in model.files),
            present=present(name),
            selective=model.weights is not None,
        )
        for name, model in PUBLISHED.items()
    ]


def present(name: str, sources: Sequence[str] | None = None) -> bool:
    """Whether the files of a published model are here, or those that these sources need.

    Raises:
        ValueError: an unknown source.
    """
    model = PUBLISHED[name]
    needed = _needed(_plan(model.sources, sources), model.weights, len(model.files))
    return all(weights.find(model.files[index][0], FOLDER) for index in needed)


def describe(path: Path, name: str | None = None) -> Listing:
    """A local model; reads the first of its files unless a bag's yaml tells what it is. Raises as `load` does."""
    bag = demucs_repo.local(path)
    if not (bag.sources and bag.rate and bag.channels):
        model = demucs_repo.read(*bag.files[0])
        bag = replace(bag, sources=tuple(model.sources), rate=model.samplerate, channels=model.audio_channels)
    assert bag.sources
    return Listing(
        name=name or _title(path),
        sources=bag.sources,
        rate=bag.rate,
        channels=bag.channels,
        licence=bag.licence,
        files=tuple(file.name for file, _ in bag.files),
        present=True,
        selective=any(not value for row in bag.weights or () for value in row),
    )


def fetch(
    name: str, progress: weights.Progress = weights.silent, sources: Sequence[str] | None = None, root: str = ROOT
) -> list[Path]:
    """Download a published model into the cache, or only the sub-models that these sources need.

    Raises:
        ValueError: an unknown name or source. WeightsError: see `weights.fetch`.
    """
    if name not in PUBLISHED:
        raise ValueError(f"got model {name!r}, expected one of {', '.join(PUBLISHED)}")
    model = PUBLISHED[name]
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
    """A published model by name, or a local one by path: a `.th`, a bag's `.yaml`, or a folder with just one of them.

    Args:
        sources: outputs, in this order: the model's own, or `no_<source>`, the mixture without it. All its own by
            default. Of a bag only the sub-models that these need are read and run.
        name: for the spec; by default the published name, the folder's or the file's.
        device: of torch; by default the GPU where there is one.

    Raises:
        ValueError: unknown name or source, or a checkpoint that cannot be used; nothing of it was run.
        WeightsError: files that are missing or damaged.
    """
    if name_or_path in PUBLISHED:
        bag = _in_cache(str(name_or_path), sources)
        return _assemble(name or str(name_or_path), bag, sources, LICENCE, device)
    path = Path(name_or_path)
    if not path.exists():
        raise ValueError(f"got {str(name_or_path)!r}, which is neither a path nor one of {', '.join(PUBLISHED)}")
    bag = demucs_repo.local(path)
    return _assemble(name or _title(path), bag, sources, bag.licence, device)


class DemucsSeparator:
    """A `models.separator.Separator`: one or several Demucs models, averaged source by source. `load` makes it.

    Args:
        models: each with its shares of the columns.
        columns: sources of the models that are wanted; `outputs` are places in it, and whether the mixture without it.
        lengths: shortest and longest window in samples.
    """

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
        self.models = [model.to(device) for model, _ in models]
        self._shares = [torch.tensor(share, device=device)[:, None, None] for _, share in models]
        totals = [sum(shares) for shares in zip(*(share for _, share in models), strict=True)]
        self._totals = torch.tensor(totals, device=device)[:, None, None]
        self._columns, self._outputs = list(columns), list(outputs)

    def start(self) -> None:
        """Stateless."""
        return None

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        """Separate windows of one length, any up to the training segment; see `models.separator.Separator`.

        Shape: pcm `[B, C, W]` float32, never written to; returns `[B, S, C, W]`, and the states as they came. A row with
        a sample that is not finite comes back as NaN, all of it, and the other rows as if it were not there.

        Raises:
            ValueError: a length, channel count or number of states that does not fit, naming both.
        """
        import torch

        rows, channels, width = pcm.shape
        if channels != self.spec.channels or rows != len(states) or not rows:
            raise ValueError(
                f"got pcm {pcm.shape} with {len(states)} states, expected [B, {self.spec.channels}, W] with B states"
            )
        if not self.lengths[0] <= width <= self.lengths[1]:
            raise ValueError(
                f"got a window of {width} samples, {self.spec.name} takes {self.lengths[0]} to {self.lengths[1]} "
                "(its training segment)"
            )
        with torch.inference_mode():
            mix = torch.from_numpy(np.array(pcm, dtype=np.float32)).to(self.device)
            sound = mix.isfinite().flatten(1).all(1)[:, None, None, None]
            if not bool(sound.all()):  # Demucs' padding asserts x == x, for all rows at once
                mix = mix.where(sound[:, 0], 0.0)
            stems = mix.new_zeros(rows, len(self._columns), channels, width)
            for model, share in zip(self.models, self._shares, strict=True):
                stems += model(mix)[:, self._columns] * share
            stems = (stems / self._totals).where(sound, torch.nan)  # sum, then divide, as in demucs.apply
            outputs = [mix - stems[:, place] if without else stems[:, place] for place, without in self._outputs]
            return torch.stack(outputs, dim=1).cpu().numpy(), list(states)


def _assemble(name: str, bag: Bag, asked: Sequence[str] | None, licence: str, device: str | None) -> DemucsSeparator:
    import torch

    read = {} if bag.sources else {0: demucs_repo.read(*bag.files[0])}
    known = bag.sources or tuple(read[0].sources)
    matrix = np.asarray(bag.weights or np.ones((len(bag.files), len(known))), np.float64)
    if matrix.shape != (len(bag.files), len(known)) or not np.isfinite(matrix).all():
        raise ValueError(
            f"{name}: got weights {matrix.tolist()}, expected {len(bag.files)} rows of {len(known)} numbers"
        )
    plan = _plan(known, asked)
    columns = sorted({column for column, _ in plan})
    if empty := [known[column] for column in columns if not matrix[:, column].sum()]:
        raise ValueError(f"{name}: the weights of {', '.join(empty)} add up to nothing: {matrix.tolist()}")
    wanted = _needed(plan, matrix.tolist(), len(bag.files))
    models = [read.get(index) or demucs_repo.read(*bag.files[index]) for index in wanted]
    first = models[0]
    for index, model in zip(wanted, models, strict=True):
        got, rest = [(tuple(m.sources), m.samplerate, m.audio_channels) for m in (model, first)]
        expected = (known, bag.rate or rest[1], bag.channels or rest[2])
        if got != rest or got != expected:
            raise ValueError(f"{bag.files[index][0]}: got {got}, expected {expected}")
    limit = min(int(_segment(model, bag.segment) * model.samplerate) for model in models)
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
    parts = [(model, matrix[index, columns].tolist()) for index, model in zip(wanted, models, strict=True)]
    outputs = [(columns.index(column), without) for column, without in plan]
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    spec = identified(spec, (item for model in models for item in model.state_dict().items()))
    return DemucsSeparator(spec, parts, columns, outputs, (first.nfft, limit), where)


def _plan(known: Sequence[str], asked: Sequence[str] | None) -> list[tuple[int, bool]]:
    """For each output the column of its source, and whether it is the mixture without it."""
    plan = []
    for source in known if asked is None else asked:
        stem = source if source in known else source.removeprefix("no_")
        if stem not in known:
            raise ValueError(f"got source {source!r}, this model has {', '.join(known)}, and no_<source> of each")
        plan.append((list(known).index(stem), stem != source))
    if not plan or len(set(plan)) < len(plan):
        raise ValueError(f"got sources {asked}, expected at least one and each once")
    return plan


def _needed(plan: Sequence[tuple[int, bool]], matrix: Sequence[Sequence[float]] | None, count: int) -> list[int]:
    """The sub-models that add something to the planned sources."""
    return [index for index in range(count) if matrix is None or any(matrix[index][column] for column, _ in plan)]


def _windows(limit: int, rate: int, hop: int) -> tuple[int, ...]:
    """Lengths on offer: whole STFT hops up the ladder, and the training segment itself where the ladder reaches it."""
    steps = [round(seconds * rate / hop) * hop for seconds in LADDER]
    last = () if limit > LADDER[-1] * rate else (limit,)
    return (*(step for step in steps if step < 0.99 * limit), *last)


def _default(window: int, rate: int, hop: int) -> Framing:
    """A quarter of the window at a time, with up to 0.5 s of lookahead and 0.05 s of cross-fade."""
    return frame(window, max(1, window // 4 // hop) * hop, min(rate // 2, window // 8), min(rate // 20, window // 64))


def _segment(model: Any, override: float | None) -> Any:
    """Seconds of training segment, as demucs.apply.BagOfModels overrides it: a transformer's only downwards."""
    use = override is not None and (not hasattr(model, "use_train_segment") or override <= model.segment)
    return override if use else model.segment


def _in_cache(name: str, asked: Sequence[str] | None) -> Bag:
    model = PUBLISHED[name]
    files = [(weights.find(file, FOLDER) or weights.cache(FOLDER, file), digest) for file, digest in model.files]
    wanted = _needed(_plan(model.sources, asked), model.weights, len(files))
    if missing := [files[index][0] for index in wanted if not files[index][0].is_file()]:
        raise weights.WeightsError(
            f"{name} is not on this machine: no {', '.join(path.name for path in missing)} in {missing[0].parent}; "
            f"fetch {name} first, or put the files there"
        )
    return Bag(tuple(files), model.weights, model.segment, model.sources)


def _title(path: Path) -> str:
    return path.name if path.is_dir() else demucs_repo.split(path)[0]

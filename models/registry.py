"""Every model by name: what it is, whether its weights are here, how to fetch and load it. Loaders import lazily.

Clients name models; only the operator gives paths (`extra`), so no text from a client ever reaches the file system.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from models import hub
from models.separator import Listing, Separator

if TYPE_CHECKING:
    from models import htdemucs

EMBEDDED = Path(__file__).with_name("embedded")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Entry:
    """One model that may be asked for.

    Attributes:
        sources, rate, channels, licence, interchangeable: as in `Spec`, known without loading.
        hears: it tells who speaks as well (`models.hearing`).
        load: the separator, for these outputs or for all; only a `selective` model does less work for fewer.
        present: whether the weights for these outputs, or for all, are on this machine.
        fetch: gets them, where they can be had.
    """

    name: str
    sources: tuple[str, ...]
    rate: int
    channels: int
    licence: str
    load: Callable[[Sequence[str] | None], Separator]
    interchangeable: bool = False
    hears: bool = False
    selective: bool = False
    present: Callable[[Sequence[str] | None], bool] = lambda _: True
    fetch: Callable[[Progress, Sequence[str] | None], object] | None = None


Registry = Mapping[str, Entry]


def build(extra: Mapping[str, Path] | None = None) -> dict[str, Entry]:
    """The embedded models, the published Demucs ones, and the operator's own, name by name.

    Raises:
        ValueError: a path that holds no model, or a name that is taken.
    """
    entries = [
        from_path(folder.name, folder)
        for folder in sorted(EMBEDDED.glob("*/"))
        if any(path.suffix in (".safetensors", ".th") for path in folder.iterdir())
        and not (folder / "config.json").is_file()  # those tell who speaks
    ]
    entries += _demucs()
    registry = {entry.name: entry for entry in entries}
    for name, path in (extra or {}).items():
        if name in registry:
            raise ValueError(f"got model name {name!r} for {path}, which is taken")
        registry[name] = from_path(name, path)
    return registry


def find(registry: Registry, name: str) -> Entry:
    """The entry of this name, of the file or folder at this path, or of a model in the hub's cache on this machine.

    For a command line, never for a client.

    Raises:
        ValueError: none of these, or nothing that is known there. FileNotFoundError: a hub name that is not in the cache.
    """
    if name in registry:
        return registry[name]
    path = Path(name)
    if path.exists() or hub.is_name(name):
        return from_path(path.stem if path.exists() else path.name, path)
    raise ValueError(f"got model {name!r}, which is neither a path nor one of {', '.join(registry)}")


def from_path(name: str, path: Path) -> Entry:
    """A model from a file or folder, or from the hub's cache on this machine by `owner/model`, told by what it holds.

    `model.safetensors` in a folder: a band-split RNN of ours. `.yaml` and `.th`: a Demucs repository. `.th`: one Demucs
    model. `.pth`, `.pt`, `.bin`: an Asteroid Conv-TasNet. `hyperparams.yaml` in a folder: a SepFormer or RE-SepFormer of
    SpeechBrain. `config.yaml` in a folder: a separation pipeline of pyannote, of which the separator is taken.

    Raises:
        ValueError: nothing that is known. FileNotFoundError: a hub name that is not in the cache.
    """
    if not path.exists() and hub.is_name(path):
        path = hub.folder(path)
    if (path / "model.safetensors").is_file():
        return _bsrnn(name, path)
    if (path / "hyperparams.yaml").is_file():
        return _sepformer(name, path)
    if (path / "config.yaml").is_file():
        return _totatonet(name, path)
    if path.suffix in (".th", ".yaml") or (path.is_dir() and any(path.glob("*.th"))):
        return _demucs_folder(name, path)
    if path.suffix in (".pth", ".pt", ".bin") and path.is_file():
        return _convtasnet(name, path)
    raise ValueError(
        f"got {path}, expected a folder with model.safetensors, a Demucs repository (.yaml and .th), a .th file, an "
        "Asteroid checkpoint (.pth, .pt, .bin), or a folder with hyperparams.yaml (SpeechBrain) or config.yaml (pyannote)"
    )


def _of(separator: Separator, name: str) -> Entry:
    """An entry for a model that is small enough to load in order to describe it."""
    spec = separator.spec
    return Entry(name, spec.sources, spec.rate, spec.channels, spec.licence, lambda _: separator, spec.interchangeable)


def _bsrnn(name: str, folder: Path) -> Entry:
    from models import bsrnn_separator

    return _of(bsrnn_separator.load(folder), name)


def _demucs() -> list[Entry]:
    from models import htdemucs

    return [
        _listed(
            listing,
            partial(htdemucs.load, listing.name),
            partial(htdemucs.present, listing.name),
            partial(htdemucs.fetch, listing.name),
        )
        for listing in htdemucs.catalogue()
    ]


def _demucs_folder(name: str, path: Path) -> Entry:
    from models import htdemucs

    return _listed(htdemucs.describe(path, name), partial(htdemucs.load, path, name=name), lambda _: True, None)


def _listed(
    listing: htdemucs.Listing,
    load: Callable[[Sequence[str] | None], Separator],
    present: Callable[[Sequence[str] | None], bool],
    fetch: Callable[[Progress, Sequence[str] | None], object] | None,
) -> Entry:
    return Entry(
        name=listing.name,
        sources=listing.sources,
        rate=listing.rate,
        channels=listing.channels,
        licence=listing.licence,
        load=load,
        selective=listing.selective,
        present=present,
        fetch=fetch,
    )


def _convtasnet(name: str, path: Path) -> Entry:
    from models import convtasnet

    return _of(convtasnet.load(path, name), name)


def _sepformer(name: str, folder: Path) -> Entry:
    from models import sepformer

    return _speakers(name, sepformer.describe(folder), lambda _: sepformer.load(folder, name))


def _totatonet(name: str, folder: Path) -> Entry:
    from models import totatonet

    entry = _speakers(name, totatonet.describe(folder), lambda _: totatonet.load(folder, name))
    return replace(entry, hears=True)


def _speakers(name: str, told: Listing, load: Callable[[Sequence[str] | None], Separator]) -> Entry:
    return Entry(name, told.sources, told.rate, 1, told.licence, load, interchangeable=len(told.sources) > 1)

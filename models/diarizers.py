"""Every diarizer by name: those that ship, and the operator's own. Loaded when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from models import hub, pyannote_file
from models.diarizer import Diarizer
from models.registry import EMBEDDED
from models.speakers import Vad

if TYPE_CHECKING:
    from models.voiceprint import Voiceprint

Diarizers = dict[str, Callable[[], Diarizer]]


def build(extra: Mapping[str, Path] | None = None) -> Diarizers:
    """Loaders by name; the first is the default.

    Raises:
        ValueError: a name that is taken.
    """
    found: Diarizers = {"voices": _voices}
    for config in sorted(EMBEDDED.glob("*/config.json")):
        found[config.parent.name] = partial(_embedded, config.parent)
    for name, path in (extra or {}).items():
        if name in found:
            raise ValueError(f"got diarizer name {name!r} for {path}, which is taken")
        found[name] = partial(_given, path, name)
    return found


def find(name: str) -> Diarizer:
    """The diarizer of this name, or of the file, folder or hub name: for a command line, never for a client.

    Raises:
        FileNotFoundError, ValueError: nothing there, or nothing that is known.
    """
    known = build()
    return known[name]() if name in known else _given(name, Path(name).stem)


def encoder() -> Voiceprint:
    """What tells voices apart."""
    from models.voiceprint import load

    return load()


def vad() -> Vad:
    """What tells speech from everything else, early."""
    from models.silero import load

    return load()


def _voices() -> Diarizer:
    from models.voices_diarizer import load

    return load()


def _embedded(folder: Path) -> Diarizer:
    """A Sortformer of ours, which was trained on nothing but people."""
    from models.silero import load as detector
    from models.speech_only import SpeechOnly

    return SpeechOnly(_sortformer(folder, folder.name), detector())


def _given(source: str | Path, name: str) -> Diarizer:
    """A separation pipeline of pyannote, whose separator tells who speaks, or a Sortformer."""
    path = Path(source)
    if not path.exists() and hub.is_name(source):
        path = hub.folder(source)
    if not (path / pyannote_file.CONFIG).is_file():
        return _sortformer(source, name)
    from models import totatonet
    from models.hearing_diarizer import HearingDiarizer

    return HearingDiarizer(totatonet.load(path, name), encoder())


def _sortformer(source: str | Path, name: str) -> Diarizer:
    from models.sortformer import load

    return load(source, name)

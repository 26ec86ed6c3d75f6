"""What a session in each mode is run by: `separate` by the model itself, the others by a model put together for them.

A composite is an `Entry` like any other, so it is loaded, measured and forgotten as all models are. Its name says all that
makes it differ from others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil
from typing import Any
from weakref import WeakValueDictionary

from models.chain import Chain
from models.diarizer import Diarizer
from models.hearing_diarizer import HearingDiarizer
from models.registry import Entry, Registry
from models.separator import Separator
from models.speakers import PEOPLE, RATE, Encoder, Speakers, Vad
from models.stitched import continuous

STEP_S = 0.25  # of what a session may wait for: each value is another model to be measured
VOCALS = "vocals"
MODES = ("separate", "speakers", "diarize")

Diarizers = Mapping[str, Callable[[], Diarizer]]


class Modes:
    """Composites of the models of a registry and of diarizers by name, the first of which is the default.

    Parts that several composites share are loaded once, and go when the last of those goes. Loaders are called from one
    thread at a time.
    """

    def __init__(
        self,
        registry: Registry,
        diarizers: Diarizers,
        encoder: Callable[[], Encoder | None] = lambda: None,
        vad: Callable[[], Vad | None] = lambda: None,
    ) -> None:
        self.registry, self.diarizers, self._encoder, self._vad = registry, diarizers, encoder, vad
        self._parts: WeakValueDictionary[str, Any] = WeakValueDictionary()

    def of(self, entry: Entry) -> tuple[str, ...]:
        """The modes that a model can be asked for in."""
        mono = entry.interchangeable and entry.channels == 1 and bool(self.diarizers)
        return MODES if mono else MODES[:1]

    def entry(self, model: Entry, mode: str, options: Mapping[str, Any]) -> Entry:
        """What runs a session of this model and mode, with the `speakers` options of its start.

        The name of a model that tells who speaks is also that of a diarizer, in its own sessions.

        Raises:
            ValueError: a mode that the model does not have, no such diarizer, or a `first` that gives no vocals.
        """
        if mode == "separate":
            return replace(model, load=lambda names: self._continuous(model, names)) if model.interchangeable else model
        if mode not in self.of(model):
            can = ", ".join(name for name, entry in self.registry.items() if mode in self.of(entry)) or "none"
            raise ValueError(f"got mode {mode!r} with model {model.name!r}, models with that mode here: {can}")
        diarizer = options.get("diarizer") or next(iter(self.diarizers))
        name, _, profile = diarizer.partition("@")
        own = model.hears and name == model.name
        if name not in self.diarizers and not own:
            has = [*self.diarizers, *([model.name] if model.hears else [])]
            raise ValueError(f"got diarizer {diarizer!r}, this server has {', '.join(has)}")
        buffer = ceil(options.get("buffer_time_s", 0) / STEP_S)
        people = options.get("max", PEOPLE)
        first = self._first(options.get("first"))
        told = f"{name}{'@' + profile if profile else ''}, {people}, {buffer * STEP_S:g} s"
        full = f"diarize({told})" if mode == "diarize" else f"{model.name}+speakers({told})"
        parts = [one for one in (first, model if mode == "speakers" else None) if one is not None]

        def load(_: object) -> Separator:
            found: Diarizer = self._ears(model) if own else self._part(f"diarizer {name}", self.diarizers[name])
            separator = None
            if mode == "speakers":
                separator = found.windows if isinstance(found, HearingDiarizer) and own else self._separator(model)
            both = Speakers(
                separator,
                found,
                full,
                profile or None,
                options.get("max"),
                round(buffer * STEP_S * RATE),
                self._part("encoder", self._encoder) if separator else None,
                self._part("vad", self._vad) if separator else None,
            )
            return Chain(self._separator(first), VOCALS, both, f"{first.name}>{full}") if first else both

        return Entry(
            name=f"{first.name}>{full}" if first else full,
            sources=() if mode == "diarize" else tuple(f"speaker_{n + 1}" for n in range(people)),
            rate=first.rate if first else RATE,
            channels=first.channels if first else 1,
            licence="; ".join(dict.fromkeys(part.licence for part in parts)),
            load=load,
            present=lambda _: all(part.present(None) for part in parts),
            fetch=next((part.fetch for part in parts if not part.present(None)), None),
        )

    def _first(self, name: str | None) -> Entry | None:
        """The model that takes the music out first, if one is asked for."""
        if name is None:
            return None
        can = [entry.name for entry in self.registry.values() if VOCALS in entry.sources]
        if name not in can:
            raise ValueError(f"got first {name!r}, models with {VOCALS} here: {', '.join(can) or 'none'}")
        return self.registry[name]

    def _separator(self, entry: Entry) -> Separator:
        separator: Separator = self._part(f"separator {entry.name}", lambda: self._continuous(entry, None))
        return separator

    def _continuous(self, entry: Entry, names: Sequence[str] | None) -> Separator:
        """Loaded, and stitched where its windows do not keep their order by themselves."""
        return continuous(self._model(entry, names), lambda: self._part("encoder", self._encoder))

    def _ears(self, entry: Entry) -> Diarizer:
        """The diarizer that a separator is, if it tells who speaks."""

        def make() -> Diarizer:
            return HearingDiarizer(self._model(entry, None), self._part("encoder", self._encoder))

        ears: Diarizer = self._part(f"ears {entry.name}", make)
        return ears

    def _model(self, entry: Entry, names: Sequence[str] | None) -> Separator:
        """Loaded once for all who want all of it."""
        if names is not None:
            return entry.load(names)
        model: Separator = self._part(f"model {entry.name}", lambda: entry.load(None))
        return model

    def _part(self, key: str, make: Callable[[], Any]) -> Any:
        part = self._parts.get(key)
        if part is None and (part := make()) is not None:
            self._parts[key] = part
        return part

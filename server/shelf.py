"""The loaded models: each is read once, at first use, and its cost here measured before anyone is promised anything."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.registry import Entry, Registry
from models.separator import Separator
from server.engine import Engine
from streaming.wire import ClientError


@dataclass(frozen=True)
class Loaded:
    """A separator and what one run of it costs here: `windows` (samples, ascending) and `seconds`, measured."""

    separator: Separator
    windows: tuple[int, ...]
    seconds: tuple[float, ...]

    def cost(self, window: int) -> float:
        """Seconds of one run on a window of so many samples: interpolated, and in proportion beyond what was measured."""
        if window > self.windows[-1]:
            return self.seconds[-1] * window / self.windows[-1]
        return float(np.interp(window, self.windows, self.seconds))


class Shelf:
    """Models by name, shared by all sessions of one event loop."""

    def __init__(self, registry: Registry, engine: Engine) -> None:
        self.registry = registry
        self._engine = engine
        self._loading: dict[tuple[str, tuple[str, ...] | None], asyncio.Task[Loaded]] = {}
        self._fetching: dict[str, asyncio.Task[object]] = {}
        self._fetched: dict[str, tuple[int, int]] = {}

    def entry(self, name: str) -> Entry:
        """What the registry says of this name. Raises ClientError: `unknown_model`."""
        if name not in self.registry:
            raise ClientError("unknown_model", f"got model {name!r}, this server has {', '.join(self.registry)}")
        return self.registry[name]

    async def get(self, name: str, outputs: Sequence[str] | None = None) -> Loaded:
        """The model of this name; a `selective` one loaded for just these outputs.

        Raises:
            ClientError: `unknown_model`; `model_unavailable` while or because its weights are not here; `bad_message`
                for an output that it does not have.
        """
        entry = self.entry(name)
        key = (name, tuple(sorted(outputs)) if outputs and entry.selective else None)
        try:
            if not entry.present(key[1]):
                self._fetch(entry, key[1])
        except ValueError as error:
            raise ClientError("bad_message", str(error)) from None
        task = self._loading.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = self._loading[key] = asyncio.create_task(self._load(entry, key[1]))
        try:
            return await asyncio.shield(task)  # a client that leaves must not stop the load that others wait for
        except ValueError as error:
            raise ClientError("bad_message", str(error)) from error

    def _fetch(self, entry: Entry, outputs: tuple[str, ...] | None) -> None:
        """Start getting the weights, or say how far that is. Always raises: nobody's start waits for a download."""
        fetch = entry.fetch
        if fetch is None:
            raise ClientError("model_unavailable", f"the weights of {entry.name} are not on this machine")
        task = self._fetching.get(entry.name)
        if task and task.done():
            del self._fetching[entry.name]
            if not task.cancelled() and (error := task.exception()):
                raise ClientError("model_unavailable", f"the weights of {entry.name} could not be fetched: {error}")
        elif task is None:

            def progress(done: int, total: int) -> None:
                self._fetched[entry.name] = (done, total)

            self._fetching[entry.name] = asyncio.create_task(self._engine.load(lambda: fetch(progress, outputs)))
        done, total = self._fetched.get(entry.name, (0, 0))
        so_far = f"{done >> 20} of {total >> 20} MB" if total else "just begun"
        raise ClientError("model_unavailable", f"the weights of {entry.name} are being fetched ({so_far}): try again")

    async def _load(self, entry: Entry, outputs: tuple[str, ...] | None) -> Loaded:
        separator = await self._engine.load(lambda: entry.load(outputs))
        framing = separator.spec.framing
        windows = (
            (separator.spec.windows[0], separator.spec.windows[-1]) if separator.spec.windows else (framing.window,)
        )
        return Loaded(separator, windows, tuple([await self._measure(separator, window) for window in windows]))

    async def _measure(self, separator: Separator, window: int) -> float:
        """The middle of three runs after one that warms up (of long windows the slower of two), behind all who are live."""
        noise = np.random.default_rng(0).normal(0, 0.1, (separator.spec.channels, window)).astype(np.float32)
        seconds = []
        for _ in range(4 if window < 2 * separator.spec.rate else 3):
            result = await self._engine.infer(separator, noise, separator.start(), deadline=math.inf)
            seconds.append(result.computed)
        return sorted(seconds[1:])[len(seconds[1:]) // 2]

    def loaded(self, name: str) -> list[Loaded]:
        """What is in memory now under this name."""
        tasks = [task for (key, _), task in self._loading.items() if key == name and task.done()]
        return [task.result() for task in tasks if not task.cancelled() and not task.exception()]

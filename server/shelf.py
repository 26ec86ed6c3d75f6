"""The loaded models: each is read once, at first use, and its cost here measured before anyone is promised anything."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from models.registry import Entry, Registry
from models.separator import Separator
from models.weights import WeightsError
from server.costs import Costs, costs
from server.engine import Engine
from server.watch import Watch
from streaming.wire import ClientError

log = structlog.get_logger(__name__)
Key = tuple[str, tuple[str, ...] | None]  # a model's name, and for which outputs it was loaded


@dataclass(frozen=True)
class Loaded:
    """A separator and what its runs cost here. `name` tells it from the same model loaded for other outputs."""

    name: str
    separator: Separator
    costs: Costs


class Shelf:
    """Models by name, shared by all sessions of one event loop; of those that nobody uses, the least used goes first."""

    def __init__(self, registry: Registry, engine: Engine, watch: Watch, memory: int = 0) -> None:
        """`memory`: bytes of weights that may be loaded at once; 0: any."""
        self.registry = registry
        self._engine, self._watch, self._memory = engine, watch, memory
        self._loading: dict[Key, asyncio.Task[Loaded]] = {}  # the most recently used last
        self._users: Counter[Key] = Counter()
        self._fetching: dict[str, asyncio.Task[object]] = {}
        self._fetched: dict[str, tuple[int, int]] = {}

    @asynccontextmanager
    async def borrow(self, entry: Entry, outputs: Sequence[str] | None = None) -> AsyncIterator[Loaded]:
        """As `get`; the model stays in memory while this is open."""
        key = _key(entry, outputs)
        self._users[key] += 1  # also while it loads
        try:
            yield await self.get(entry, outputs)
        finally:
            self._users[key] -= 1

    def entry(self, name: str) -> Entry:
        """What the registry says of this name. Raises ClientError: `unknown_model`."""
        if name not in self.registry:
            raise ClientError("unknown_model", f"got model {name!r}, this server has {', '.join(self.registry)}")
        return self.registry[name]

    async def get(self, entry: Entry, outputs: Sequence[str] | None = None) -> Loaded:
        """The model of this entry; a `selective` one loaded for just these outputs.

        Raises:
            ClientError: `model_unavailable` while or because its weights are not here; `bad_message` for an output that it
                does not have.
        """
        key = _key(entry, outputs)
        try:
            if not entry.present(key[1]):
                self._fetch(entry, key[1])
        except ValueError as error:
            raise ClientError("bad_message", str(error)) from None
        task = self._loading.pop(key, None)
        if task is None or (task.done() and (task.cancelled() or task.exception())):
            task = asyncio.create_task(self._load(entry, key))
        self._loading[key] = task
        try:
            return await asyncio.shield(task)  # a client that leaves must not stop the load that others wait for
        except ValueError as error:
            raise ClientError("bad_message", str(error)) from error
        except (WeightsError, OSError) as error:
            log.error("weights do not load", model=entry.name, error=str(error))
            raise ClientError("model_unavailable", f"the weights of {entry.name} do not load here") from error

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

    async def _load(self, entry: Entry, key: Key) -> Loaded:
        separator = await self._engine.load(lambda: entry.load(key[1]))
        self._make_room(key, separator.spec.size)
        found = await costs(separator, self._engine)
        self._watch.knows(separator, found)
        gc.freeze()  # it stays: the collector must not walk torch's half a million objects in the middle of a stream
        return Loaded(entry.name if key[1] is None else f"{entry.name}({','.join(key[1])})", separator, found)

    def _make_room(self, new: Key, size: int) -> None:
        """Forget models that nobody uses, the least recently used first, until the new one fits.

        Raises:
            ClientError: `capacity`: all others are in use.
        """
        held = {key: model.separator.spec.size for key, model in self._here().items() if key != new}
        for key in [key for key in held if not self._users[key]]:
            if not self._memory or sum(held.values()) + size <= self._memory:
                return
            self._watch.forgets(self._loading.pop(key).result().separator)
            del held[key]
        if self._memory and sum(held.values()) + size > self._memory:
            sizes = f"{size >> 20} MB, {sum(held.values()) >> 20} of {self._memory >> 20} MB are in use"
            raise ClientError("capacity", f"{new[0]} takes {sizes}: try again later", retry_after_ms=5000)

    def _here(self) -> dict[Key, Loaded]:
        done = {key: task for key, task in self._loading.items() if task.done()}
        return {key: task.result() for key, task in done.items() if not task.cancelled() and not task.exception()}

    def loaded(self, name: str | None = None) -> list[Loaded]:
        """What is in memory now, under this name or under all."""
        return [model for key, model in self._here().items() if name in (None, key[0])]


def _key(entry: Entry, outputs: Sequence[str] | None) -> Key:
    return entry.name, tuple(sorted(outputs)) if outputs and entry.selective else None

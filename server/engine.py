"""The one exit from the event loop: a thread that owns the models and runs whatever is waiting, as one batch.

A window that comes alone waits for nothing; while a batch runs others gather, so batches grow by themselves under load and
there is no timer to tune. Earliest deadline first; only windows of the same model and shape go together. A result goes
to the future of its own request and nowhere else: a cancelled one is dropped, so nothing reaches the next user.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from models import threads
from models.separator import Separator
from streaming.framing import Array

MAX_BATCH = 16
T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """`stems` `[S, C, W]`, the next state, seconds waited for the engine and computed, and how many windows ran together."""

    stems: Array
    state: Any
    queued: float
    computed: float
    batch: int


@dataclass(order=True)
class _Request:
    deadline: float
    number: int
    separator: Separator = field(compare=False)
    pcm: Array = field(compare=False)
    state: Any = field(compare=False)
    future: asyncio.Future[Result] = field(compare=False)
    asked: float = field(compare=False)


class Engine:
    """One thread. `infer` from any event loop; `close` when no session is left."""

    def __init__(
        self, observe: Callable[[Separator, int, float], None] = lambda separator, batch, seconds: None
    ) -> None:
        self._waiting: list[_Request] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._closed = False
        self._observe = observe
        self._thread = threading.Thread(target=self._loop, name="engine", daemon=True)
        self._thread.start()
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")

    async def infer(self, separator: Separator, pcm: Array, state: Any, deadline: float) -> Result:
        """Run one window, `[C, W]`, of one session.

        `deadline` (seconds of `time.monotonic`) only orders those who wait; a late window is still computed.

        Raises:
            RuntimeError: the engine is closed. Whatever the model raises.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        request = _Request(deadline, next(self._numbers), separator, pcm, state, future, time.monotonic())
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine is closed")
            self._waiting.append(request)
            self._changed.notify()
        return await future

    async def load(self, make: Callable[[], T]) -> T:
        """What reads weights from disk or network, beside the engine's thread so that nobody inside waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._loader, make)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def close(self) -> None:
        """Stop after the batch that is running; those who wait are cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _loop(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:
                self._run(batch)

    def _next_batch(self) -> list[_Request] | None:
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                for request in self._waiting:
                    _post(request, lambda future: future.cancel())
                return None
            alive = sorted(request for request in self._waiting if not request.future.cancelled())
            first = alive[0] if alive else None
            batch = [r for r in alive if first and r.separator is first.separator and r.pcm.shape == first.pcm.shape]
            batch = batch[:MAX_BATCH]
            taken = {request.number for request in batch}
            self._waiting = [request for request in alive if request.number not in taken]
            return batch

    def _run(self, batch: list[_Request]) -> None:
        separator = batch[0].separator
        threads.use(separator.spec.threads)
        began = time.monotonic()
        try:
            stems, states = separator.run(np.stack([r.pcm for r in batch]), [r.state for r in batch])
        except Exception as error:
            if len(batch) > 1:  # one session's failure is its own: find whose it was
                for request in batch:
                    self._run([request])
            else:
                _post(batch[0], lambda future, error=error: future.set_exception(error))  # type: ignore[misc]
            return
        seconds = time.monotonic() - began
        self._observe(separator, len(batch), seconds)
        for row, request in enumerate(batch):
            result = Result(stems[row], states[row], began - request.asked, seconds, len(batch))
            _post(request, lambda future, result=result: future.set_result(result))  # type: ignore[misc]


def _post(request: _Request, settle: Callable[[asyncio.Future[Result]], object]) -> None:
    """Settle a future on its own loop, unless its session is gone."""

    def on_loop() -> None:
        if not request.future.done():
            settle(request.future)

    try:
        request.future.get_loop().call_soon_threadsafe(on_loop)
    except RuntimeError:  # that loop is closed, and the session with it
        pass

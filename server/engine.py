"""The one exit from the event loop: threads that own the models and run whatever is waiting, as batches.

A window that comes alone waits for nothing; while a batch runs others gather, so batches grow by themselves under load and
there is no timer to tune. Earliest deadline first; only windows of the same model and shape go together. A result goes
to the future of its own request and nowhere else: a cancelled one is dropped, so nothing reaches the next user.

A run cannot be interrupted, so a Demucs window of a second and a speech step of a millisecond cannot share a thread: each
lane is a thread of its own, and the operating system is what interrupts: the lanes of those who can wait are niced. Measured
(docs/operations.md): one htdemucs session in the lane of eight speech sessions breaks every one of their promises.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

from models import threads
from models.separator import Separator
from streaming.framing import Array

MAX_BATCH = 32
LONG_S = 0.05  # s; a run longer than this goes to the long lane
Lane = Literal["short", "long", "spare"]
NICE: dict[Lane, int] = {"short": 0, "long": 5, "spare": 15}  # of 19; `spare` is for files, which nobody waits for
T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """`stems` `[S, C, W]`, the next state, seconds waited for the engine and computed, and how many windows ran together."""

    stems: Array
    state: Any
    queued: float
    computed: float
    batch: int


@dataclass(frozen=True)
class Run:
    """What the engine reports of each run, from its own threads. `late`: rows that ended after their deadline."""

    separator: Separator
    lane: Lane
    window: int
    batch: int
    seconds: float
    late: int


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
    """One thread a lane. `infer` from any event loop; `close` when no session is left."""

    def __init__(self, observe: Callable[[Run], None] = lambda run: None) -> None:
        self._lanes = {name: _Lane(name, observe) for name in NICE}
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")

    async def infer(
        self, separator: Separator, pcm: Array, state: Any, deadline: float, lane: Lane = "short"
    ) -> Result:
        """Run one window, `[C, W]`, of one session.

        `deadline` (seconds of `time.monotonic`) only orders those who wait in a lane; a late window is still computed.

        Raises:
            RuntimeError: the engine is closed. Whatever the model raises.
        """
        (result,) = await self._lanes[lane].infer(separator, pcm[None], [state], deadline)
        return result

    async def infer_batch(
        self, separator: Separator, pcm: Array, states: Sequence[Any], deadline: float, lane: Lane
    ) -> list[Result]:
        """As `infer`, of `[B, C, W]`: rows that come together and, unless there are more than MAX_BATCH, run together."""
        return await self._lanes[lane].infer(separator, pcm, states, deadline)

    async def load(self, make: Callable[[], T]) -> T:
        """What reads weights from disk or network, beside the lanes so that nobody inside waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._loader, make)

    def waiting(self) -> dict[Lane, int]:
        """Windows that wait, by lane."""
        return {name: len(lane.waiting) for name, lane in self._lanes.items()}

    def busy(self) -> dict[Lane, float]:
        """Seconds that each lane has been running models since it began."""
        return {name: lane.busy for name, lane in self._lanes.items()}

    def close(self) -> None:
        """Stop after the batches that are running; those who wait are cancelled."""
        for lane in self._lanes.values():
            lane.close()
        self._loader.shutdown(wait=False, cancel_futures=True)


class _Lane:
    """A thread and those who wait for it."""

    def __init__(self, name: Lane, observe: Callable[[Run], None]) -> None:
        self.name, self.busy = name, 0.0
        self.waiting: list[_Request] = []
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._closed = False
        self._observe = observe
        self._thread = threading.Thread(target=self._loop, name=f"engine-{name}", daemon=True)
        self._thread.start()

    async def infer(self, separator: Separator, pcm: Array, states: Sequence[Any], deadline: float) -> list[Result]:
        loop, now = asyncio.get_running_loop(), time.monotonic()
        requests = [
            _Request(deadline, next(self._numbers), separator, row, state, loop.create_future(), now)
            for row, state in zip(pcm, states, strict=True)
        ]
        with self._changed:
            if self._closed:
                raise RuntimeError("the engine is closed")
            self.waiting.extend(requests)
            self._changed.notify()
        return [await request.future for request in requests]

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _loop(self) -> None:
        if hasattr(os, "setpriority") and NICE[self.name]:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE[self.name])
        while (batch := self._next_batch()) is not None:
            if batch:
                self._run(batch)

    def _next_batch(self) -> list[_Request] | None:
        """Those who run next; none if all who waited have left; None when the lane is closed."""
        with self._changed:
            while not self.waiting and not self._closed:
                self._changed.wait()
            if self._closed:
                _post(self.waiting, lambda request: request.future.cancel())
                return None
            alive = sorted(request for request in self.waiting if not request.future.cancelled())
            first = alive[0] if alive else None
            batch = [r for r in alive if first and r.separator is first.separator and r.pcm.shape == first.pcm.shape]
            batch = batch[:MAX_BATCH]
            taken = {request.number for request in batch}
            self.waiting = [request for request in alive if request.number not in taken]
            return batch

    def _run(self, batch: list[_Request]) -> None:
        """Together, and each alone if that fails."""
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
                _post(batch, lambda request, error=error: request.future.set_exception(error))  # type: ignore[misc]
            return
        ended = time.monotonic()
        seconds = ended - began
        rows = {
            request.number: Result(stems[row], states[row], began - request.asked, seconds, len(batch))
            for row, request in enumerate(batch)
        }
        _post(batch, lambda request: request.future.set_result(rows[request.number]))
        self.busy += seconds
        late = sum(ended > request.deadline for request in batch)
        self._observe(Run(separator, self.name, batch[0].pcm.shape[-1], len(batch), seconds, late))


def _post(requests: Sequence[_Request], settle: Callable[[_Request], object]) -> None:
    """Settle futures on their own loops, one call a loop, unless their sessions are gone."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Request]] = {}
    for request in requests:
        by_loop.setdefault(request.future.get_loop(), []).append(request)

    def on_loop(mine: list[_Request]) -> None:
        for request in mine:
            if not request.future.done():
                settle(request)

    for loop, mine in by_loop.items():
        try:
            loop.call_soon_threadsafe(on_loop, mine)
        except RuntimeError:  # that loop is closed, and the sessions with it
            pass

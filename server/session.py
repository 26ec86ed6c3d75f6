"""One client, from `start` to `done`: what it says, what it is told, and what it gets of the stems."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import structlog

from server.aside import aside
from server.house import House, Place, Tap
from server.inbox import Inbox
from server.log import bind_session
from server.metrics import Window
from server.pace import Arrivals, Budget, Pace
from server.transport import Transport, receive
from server.turns_out import turns_out
from streaming import binary, mix, pipeline, wire
from streaming.entry import kept
from streaming.fields import FORMATS
from streaming.framing import Array
from streaming.join import Chunk
from streaming.wire import ClientError

log = structlog.get_logger(__name__)
STATS_EVERY = 1.0  # s
MOST_MARKS = 1000  # that may wait in one session


class Session:
    """A started session. One task listens to the client; one separates what it heard and tells it; one tells how it goes; one
    waits for the session to go on elsewhere. The end of any is the end of all."""

    def __init__(self, transport: Transport, place: Place, house: House) -> None:
        self.transport, self.place, self.start, self.promise = transport, place, place.start, place.promise
        self.house, self.settings = house, house.settings
        self.separator = place.model.separator
        start, spec = self.start, self.separator.spec
        self.names = start.stems or spec.sources
        self.channels = 1 if start.mono else min(start.channels, spec.channels)
        try:
            self.chosen = mix.matrix(spec.sources, self.names)
            self.gains = dict(start.gains)
            self.fader = mix.Fader(rows := self._rows(), rows)
        except ValueError as error:
            raise ClientError("bad_message", str(error)) from None
        self.turns = turns_out(self.separator, start, place.at, place.spoken)
        # What may be held uncut: the audio that arrives while the model runs, and a second of slack.
        self.inbox = Inbox(round((self.promise.seconds + 1) * start.rate))
        # What is replayed, and what was recorded meanwhile, is due already.
        owed = self.kept + round(place.away * start.rate) if place.resumed else 0
        self.pace = Pace(start.rate, self.settings.max_ahead_s, owed)
        self.messages = Budget(self.settings.max_messages_per_s)
        self.heard, self.told = place.at.replay, place.at.told
        self.ended = self.done = False
        self.catching_up = place.resumed
        self.arrivals = Arrivals()
        self.marks: deque[tuple[int, str]] = deque()
        self.compute, self.queue, self.lag = Window(), Window(), Window()
        self.replaced, self.over = asyncio.Event(), asyncio.Event()
        self.taps: set[Tap] = set()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what goes out, in order."""
        return tuple(self.names) if self.start.output == "stems" else ("mix",)

    @property
    def kept(self) -> int:
        """Samples before the last told one that a client keeps, so that the session can be resumed."""
        return kept(self.promise.plan, self.separator.spec.memory)

    def _rows(self) -> Array:
        """The matrix from the model's sources to what goes out, `[outputs, sources]`."""
        if self.start.output == "stems":
            return self.chosen
        return np.asarray(mix.mixdown(self.names, self.gains) @ self.chosen, np.float32)

    # Around it: what `serve` opens for as long as the session runs

    @contextmanager
    def known(self) -> Iterator[None]:
        """While this is open, the session can be told that it goes on elsewhere."""
        self.house.sessions[self.place.session] = self
        try:
            yield
        finally:
            if self.house.sessions.get(self.place.session) is self:
                del self.house.sessions[self.place.session]
            self.over.set()
            for tap in tuple(self.taps):
                tap.end()

    @contextmanager
    def logged(self) -> Iterator[None]:
        """A line when the session begins, and one with the account when it ends."""
        place, began, end = self.place, time.monotonic(), "done"
        with bind_session(place.session, self.start.model, place.identity.name):
            latency_ms = round(1000 * self.promise.seconds, 1)
            log.info("session begins", resumed_at=place.at.told or None, live=self.start.live, latency_ms=latency_ms)
            try:
                yield
            except BaseException as error:
                end = error.code if isinstance(error, ClientError) else type(error).__name__.lower()
                raise
            finally:
                account = {
                    "heard": self.heard,
                    "told": self.told,
                    "lag_p50_ms": round(1000 * self.lag.percentile(50), 1),
                }
                log.info("session ends", reason=end, seconds=round(time.monotonic() - began, 3), **account)

    async def hand_over(self) -> None:
        """End, because the session goes on over another connection; returns when it has."""
        self.replaced.set()
        await self.over.wait()

    # The session

    async def run(self) -> None:
        """Raises Gone, ClientError, or what the model raised."""
        self.transport.expect(self._bytes_per_s())
        await self.send(self._ready())
        work = (self._separate(), self._listen(), self._report(), self._wait_replaced())
        tasks = [asyncio.create_task(one) for one in work]
        try:
            longest = self.settings.max_session_s or None
            await asyncio.wait(tasks, timeout=longest, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    return task.result()
            raise ClientError("timeout", f"this session has lasted {longest:g} s, the most that is allowed here")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _report(self) -> None:
        """The stats, also while there is nothing else to say: that is how a peer that vanished is noticed when it is not
        read because it is ahead of the clock."""
        while not self.done:
            await asyncio.sleep(STATS_EVERY)
            if not self.done:
                await self.send(self._stats())
        await asyncio.Event().wait()

    async def _wait_replaced(self) -> None:
        await self.replaced.wait()
        raise ClientError("replaced", "the session goes on over another connection")

    def _ready(self) -> wire.Ready:
        return wire.Ready(
            session=self.place.session,
            model=self.start.model,
            stems=self.outputs,
            rate=self.start.rate,
            channels=self.channels,
            format=self.start.format,
            latency_samples=self.promise.plan.latency,
            latency_ms=round(self.promise.seconds * 1000, 1),
            resume=self._ticket(),
            resume_samples=self.kept,
            replay_from=self.place.at.replay,
            mode=self.start.mode,
            diarizer=self.turns.diarizer if self.turns else None,
        )

    def _bytes_per_s(self) -> float:
        return len(self.outputs) * self.channels * self.start.rate * FORMATS[self.start.format].itemsize

    def _ticket(self) -> str:
        spoken = self.turns.spoken() if self.turns else ()
        return self.house.tickets.write(self.place.ticket(self.told, replace(self.start, gains=self.gains), spoken))

    async def _listen(self) -> None:
        """Take what the client says, until it leaves."""
        while True:
            message = await receive(self.transport, None if self.ended else self.settings.idle_timeout_s)
            await self.messages.message()
            if self.ended:
                raise ClientError("order", "got a message after end")
            if isinstance(message, bytes):
                await self._hear(message)
                continue
            match wire.decode(message):
                case wire.Mark() if len(self.marks) >= MOST_MARKS:
                    raise ClientError("bad_message", f"got a mark while {MOST_MARKS} wait for their audio")
                case wire.Mark(id):
                    self.marks.append((self.heard, id))
                    await self._echo_marks()
                case wire.Gains(gains):
                    self._set_gains(dict(gains))
                case wire.End():
                    self.ended = True
                    self.inbox.end()
                case wire.Start() | wire.Resume():
                    raise ClientError("order", "got a second start: one connection is one session")

    async def _hear(self, data: bytes) -> None:
        pcm = binary.pcm(data, self.start.format, self.start.channels)
        if self.start.format == "f32le":
            pcm, error = binary.finite(pcm, self.heard)
            if error:
                self.house.metrics.silenced.inc()
                await self.send(wire.complaint(error))
        if not (samples := pcm.shape[1]):
            return
        self.house.quotas.charge(self.place.identity, samples / self.start.rate)
        due = await self.pace.hear(samples) if self.start.live else time.monotonic()
        self.heard += samples
        self.arrivals.heard(self.heard, due)
        await self.inbox.put(mix.fit(pcm, self.separator.spec.channels))

    def _set_gains(self, gains: dict[str, float]) -> None:
        if self.start.output != "mix":
            raise ClientError("bad_message", "got gains, but this session has no mix: start with output: mix")
        try:
            self.gains = {**self.gains, **gains}
            self.fader = self.fader.towards(self._rows(), round(mix.RAMP_MS * self.start.rate / 1000))
        except ValueError as error:
            raise ClientError("bad_message", str(error)) from None

    async def _separate(self) -> None:
        """The whole job: heard audio through the pipeline, chunk by chunk, then the account."""
        plan, state = self.promise.plan, self.separator.start()
        async for chunk in pipeline.stream(self.inbox.drain(), plan, self._infer, state, self.place.at, aside):
            await self._tell_chunk(chunk)
        if self.turns and (last := self.turns.finish(self.heard)):
            await self.send(last)
        await self._echo_marks()
        self.done = True
        await self.send(self._stats())
        await self.send(wire.Done(self.told))

    async def _infer(self, pcm: Array, state: Any) -> tuple[Array, Any]:
        deadline = math.inf
        if self.start.live:
            due = self.arrivals.of(self.told + self.promise.plan.latency - 1) or 0.0
            deadline = max(due, time.monotonic()) + self.promise.allowance
        result = await self.house.engine.infer(self.separator, pcm, state, deadline, self.promise.lane)
        self.compute.add(result.computed)
        self.queue.add(result.queued)
        if self.turns and (event := self.turns.hear(result.state, self.heard)):
            await self.send(event)
        return result.stems, result.state

    async def _tell_chunk(self, chunk: Chunk) -> None:
        tracks = self.turns.tracks(chunk.stems) if self.turns else chunk.stems
        self.fader, stems = self.fader.apply(tracks)
        if len(stems):
            out = replace(chunk, stems=mix.fit(stems, self.channels))
            for tap in tuple(self.taps):
                tap.write(out.start, out.stems)
            await self.send(await aside(out.stems.size, lambda: binary.pack(out, self.start.format)))
        first = self.arrivals.of(chunk.start)
        self.told = chunk.start + chunk.stems.shape[-1]
        newest, now = self.arrivals.told(self.told), time.monotonic()
        if newest is not None:
            self.lag.add(max(now - newest, 0.0))
        self.house.metrics.samples.labels(self.start.model).inc(chunk.stems.shape[-1])
        if first is not None and self.start.live:
            self._account(now - first)
        await self._echo_marks()

    def _account(self, lag: float) -> None:
        """Was it in time? What a resumed session replays is not held against the machine."""
        self.catching_up = self.catching_up and lag > self.promise.seconds
        if not self.catching_up:
            self.house.metrics.told(self.start.model, lag, self.promise.seconds)
            self.house.watch.told(lag > self.promise.seconds)

    async def _echo_marks(self) -> None:
        while self.marks and self.marks[0][0] <= self.told:
            sample, id = self.marks.popleft()
            await self.send(wire.Mark(id, sample))

    def _stats(self) -> wire.Stats:
        def ms(values: Window, percent: float) -> float:
            return round(values.percentile(percent) * 1000, 3)

        return wire.Stats(
            self.heard,
            self.told,
            ms(self.lag, 50),
            ms(self.compute, 50),
            ms(self.compute, 95),
            ms(self.queue, 95),
            self._ticket(),
        )

    async def send(self, message: wire.FromServer | bytes) -> None:
        """Bounded in time: a client that does not read holds up only itself, and not for ever."""
        try:
            async with asyncio.timeout(self.settings.send_timeout_s):
                await self.transport.send(message if isinstance(message, bytes) else wire.encode(message))
        except TimeoutError:
            raise ClientError("timeout", f"nothing was read for {self.settings.send_timeout_s:g} s") from None

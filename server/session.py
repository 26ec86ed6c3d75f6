"""One client, from `start` to `done`: what it says, what it is told, and what it gets of the stems."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from server.config import Settings
from server.drain import Drain
from server.engine import Engine
from server.inbox import Inbox
from server.metrics import Metrics, Window
from server.promise import Promise, promise
from server.shelf import Loaded, Shelf
from streaming import mix, pipeline, wire
from streaming.framing import Array
from streaming.join import Chunk
from streaming.wire import ClientError

STATS_EVERY = 1.0  # s
MOST_MARKS = 1000  # that may wait in one session


class Gone(Exception):
    """The peer left without `end`."""


class Transport(Protocol):
    """A WebSocket, or two queues in a test."""

    async def receive(self) -> str | bytes | None:
        """The next message; None when the peer is gone."""
        ...

    async def send(self, message: str | bytes) -> None:
        """Returns when the message is on its way; waits while the peer does not read."""
        ...


@dataclass(frozen=True)
class House:
    """What all sessions of a process share."""

    engine: Engine
    shelf: Shelf
    settings: Settings
    metrics: Metrics
    drain: Drain


async def serve(transport: Transport, house: House) -> int:
    """One session, to its end. Returns the code to close with."""
    settings, metrics = house.settings, house.metrics
    try:
        house.drain.check()
        start = await _start(transport, settings)
        if metrics.open >= settings.max_sessions:
            raise ClientError("capacity", f"all {settings.max_sessions} sessions are taken: try again later")
        house.shelf.entry(start.model)  # refused before it is a label of metrics: wrong names have no end
        with metrics.session(start.model):  # counted while it loads: the door must not let in more than the house holds
            model = await house.shelf.get(start.model, start.stems)
            session = Session(transport, start, model, house)
            with house.drain.session(session.send):
                await session.run()
        return metrics.closed("done", 1000)
    except Gone:
        return metrics.closed("gone", 1001)
    except ClientError as error:
        await _tell(transport, error, settings)
        return metrics.closed(error.code, wire.CLOSE_CODES[error.code])
    except Exception:
        await _tell(
            transport, ClientError("internal", "the server failed; nothing is wrong with what was sent"), settings
        )
        metrics.closed("internal", wire.CLOSE_CODES["internal"])
        raise


async def _start(transport: Transport, settings: Settings) -> wire.Start:
    message = await _receive(transport, settings.idle_timeout_s)
    if isinstance(message, bytes):
        raise ClientError("order", f"got {len(message)} bytes of audio before start")
    start = wire.decode(message)
    if not isinstance(start, wire.Start):
        raise ClientError("order", f"got {type(start).__name__.lower()} before start")
    if start.gains and start.output != "mix":
        raise ClientError("bad_message", "got gains without output: mix; stems come as they are")
    return start


async def _receive(transport: Transport, seconds: float | None) -> str | bytes:
    try:
        async with asyncio.timeout(seconds):
            message = await transport.receive()
    except TimeoutError:
        raise ClientError("timeout", f"nothing came for {seconds:g} s") from None
    if message is None:
        raise Gone
    return message


async def _tell(transport: Transport, error: ClientError, settings: Settings) -> None:
    """The error, if the peer still reads."""
    try:
        async with asyncio.timeout(settings.send_timeout_s):
            await transport.send(wire.encode(wire.Error(error.code, error.message, error.fatal)))
    except (TimeoutError, Gone):
        pass


class Session:
    """A started session: one task listens, one tells; either's end ends both."""

    def __init__(self, transport: Transport, start: wire.Start, model: Loaded, house: House) -> None:
        self.transport, self.start = transport, start
        self.engine, self.settings, self.metrics = house.engine, house.settings, house.metrics
        self.separator = model.separator
        spec = self.separator.spec
        budget = None if start.latency_ms is None else start.latency_ms / 1000
        self.promise: Promise = promise(model, start.rate, budget)
        self.names = start.stems or spec.sources
        self.channels = 1 if start.mono else min(start.channels, spec.channels)
        try:
            self.stems = mix.matrix(spec.sources, self.names)
            self.gains = dict(start.gains)
            self.fader = mix.Fader(rows := self._rows(), rows)
        except ValueError as error:
            raise ClientError("bad_message", str(error)) from None
        # What a client may be ahead: the audio that arrives while the model runs, and a second of slack.
        self.inbox = Inbox(round((self.promise.seconds + 1) * start.rate))
        self.heard = self.told = 0
        self.ended = False
        self.arrivals: deque[tuple[int, float]] = deque()
        self.marks: deque[tuple[int, str]] = deque()
        self.compute, self.queue, self.lag = Window(), Window(), Window()
        self.deadline_s = self.promise.plan.framing.hop / spec.rate

    def _rows(self) -> Array:
        """The matrix from the model's sources to what goes out."""
        if self.start.output == "stems":
            return self.stems
        return np.asarray(mix.mixdown(self.names, self.gains) @ self.stems, np.float32)

    async def run(self) -> None:
        """Raises Gone, ClientError, or what the model raised."""
        await self.send(self._ready())
        listening, telling = asyncio.create_task(self._listen()), asyncio.create_task(self._separate())
        try:
            await asyncio.wait((listening, telling), return_when=asyncio.FIRST_COMPLETED)
            (telling if telling.done() else listening).result()
        finally:
            listening.cancel()
            telling.cancel()
            await asyncio.gather(listening, telling, return_exceptions=True)

    def _ready(self) -> wire.Ready:
        names = self.names if self.start.output == "stems" else ("mix",)
        return wire.Ready(
            session=secrets.token_hex(8),
            model=self.start.model,
            stems=tuple(names),
            rate=self.start.rate,
            channels=self.channels,
            format=self.start.format,
            latency_samples=self.promise.plan.latency,
            latency_ms=round(self.promise.seconds * 1000, 1),
        )

    async def _listen(self) -> None:
        """Take what the client says, until it leaves."""
        while True:
            message = await _receive(self.transport, None if self.ended else self.settings.idle_timeout_s)
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
                case wire.Start():
                    raise ClientError("order", "got a second start: one connection is one session")

    async def _hear(self, data: bytes) -> None:
        pcm = wire.pcm(data, self.start.format, self.start.channels)
        if self.start.format == "f32le":
            pcm, error = wire.finite(pcm, self.heard)
            if error:
                await self.send(wire.Error(error.code, error.message, error.fatal))
        if pcm.shape[1]:
            self.heard += pcm.shape[1]
            self.arrivals.append((self.heard, time.monotonic()))
            await self.inbox.put(fit(pcm, self.separator.spec.channels))

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
        stats_at = time.monotonic() + STATS_EVERY
        state = self.separator.start()
        async for chunk in pipeline.stream(self.inbox.drain(), self.promise.plan, self._infer, state):
            await self._tell_chunk(chunk)
            if time.monotonic() >= stats_at:
                stats_at += STATS_EVERY
                await self.send(self._stats())
        await self._echo_marks()
        await self.send(self._stats())
        await self.send(wire.Done(self.told))

    async def _infer(self, pcm: Array, state: Any) -> tuple[Array, Any]:
        result = await self.engine.infer(self.separator, pcm, state, time.monotonic() + self.deadline_s)
        self.compute.add(result.computed)
        self.queue.add(result.queued)
        return result.stems, result.state

    async def _tell_chunk(self, chunk: Chunk) -> None:
        self.fader, stems = self.fader.apply(chunk.stems)
        await self.send(wire.pack(replace(chunk, stems=fit(stems, self.channels)), self.start.format))
        self.told = chunk.start + chunk.stems.shape[-1]
        arrived = 0.0
        while self.arrivals and self.arrivals[0][0] <= self.told:
            arrived = self.arrivals.popleft()[1]
        if arrived:
            self.lag.add(time.monotonic() - arrived)
            self.metrics.lag.labels(self.start.model).observe(time.monotonic() - arrived)
        self.metrics.samples.labels(self.start.model).inc(chunk.stems.shape[-1])
        await self._echo_marks()

    async def _echo_marks(self) -> None:
        while self.marks and self.marks[0][0] <= self.told:
            sample, id = self.marks.popleft()
            await self.send(wire.Mark(id, sample))

    def _stats(self) -> wire.Stats:
        def ms(values: Window, percent: float) -> float:
            return round(values.percentile(percent) * 1000, 3)

        return wire.Stats(
            self.heard, self.told, ms(self.lag, 50), ms(self.compute, 50), ms(self.compute, 95), ms(self.queue, 95)
        )

    async def send(self, message: wire.FromServer | bytes) -> None:
        """Bounded in time: a client that does not read holds up only itself, and not for ever."""
        try:
            async with asyncio.timeout(self.settings.send_timeout_s):
                await self.transport.send(message if isinstance(message, bytes) else wire.encode(message))
        except TimeoutError:
            raise ClientError("timeout", f"nothing was read for {self.settings.send_timeout_s:g} s") from None


def fit(pcm: Array, channels: int) -> Array:
    """`[..., C, T]` with so many channels: mono goes to both, stereo is averaged."""
    if pcm.shape[-2] == channels:
        return pcm
    if channels == 1:
        return np.asarray(pcm.mean(axis=-2, keepdims=True, dtype=np.float32))
    return np.repeat(pcm, channels, axis=-2)

"""One paced session. It reads no more of a message than its header, so as not to measure itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from rivulet_client.codec import Done, Error, Start, Stats, decode, encode, header
from rivulet_client.errors import RivuletError
from rivulet_client.handshake import hang_up, open_session
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from clients.bench.timeline import Arrival, Timeline, due


@dataclass(frozen=True)
class Load:
    """What every session does: `count` packets of `packet` samples each, `data` round and round."""

    url: str
    start: Start
    packet: int
    data: Sequence[bytes]
    count: int
    token: str | None = None
    patience: float = 120.0


async def run_sessions(load: Load, sessions: int) -> list[Timeline]:
    """`sessions` of them at once. All are ready before any begins, and they begin evenly spread over one packet."""
    timelines = [Timeline(load.start.rate, load.packet) for _ in range(sessions)]
    gate = _Gate(sessions, load.packet / load.start.rate)
    await asyncio.gather(*(_session(load, timeline, gate, index) for index, timeline in enumerate(timelines)))
    return timelines


class _Gate:
    """Opens when every session has been answered, also when the answer was no."""

    def __init__(self, sessions: int, period: float) -> None:
        self._sessions, self._period, self._waiting = sessions, period, sessions
        self._open = asyncio.get_running_loop().create_future()

    def arrive(self) -> None:
        self._waiting -= 1
        if self._waiting == 0:
            self._open.set_result(asyncio.get_running_loop().time() + 0.1)

    async def t0(self, index: int) -> float:
        """The beginning of session `index`, s."""
        begin: float = await asyncio.shield(self._open)
        return begin + self._period * index / self._sessions


async def _session(load: Load, timeline: Timeline, gate: _Gate, index: int) -> None:
    try:
        try:
            socket, timeline.ready = await open_session(
                load.url, load.start, token=load.token, patience=load.patience, retries=0
            )
        finally:
            gate.arrive()
        timeline.t0 = await gate.t0(index)
        sender = asyncio.create_task(_send(socket, load, timeline))
        try:
            await _receive(socket, timeline)
        finally:
            timeline.finished = asyncio.get_running_loop().time()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)
            await hang_up(socket)
    except RivuletError as error:
        timeline.error = str(error)
    except ConnectionClosed as closed:
        timeline.error = f"the connection ended before done ({closed})"


async def _send(socket: ClientConnection, load: Load, timeline: Timeline) -> None:
    now = asyncio.get_running_loop().time
    for index in range(load.count):
        await asyncio.sleep(due(timeline, index) - now())
        timeline.sent.append(now())
        await socket.send(load.data[index % len(load.data)])
    await socket.send(encode("end"))


async def _receive(socket: ClientConnection, timeline: Timeline) -> None:
    now = asyncio.get_running_loop().time
    told = 0
    while True:
        data = await socket.recv()
        at = now()
        if not isinstance(data, str):
            head = header(data)
            if head.start != told:
                timeline.error = f"got stems from sample {head.start}, expected {told}"
                return
            told += head.frames
            if told > timeline.samples_in:
                timeline.error = f"got stems up to sample {told}, {timeline.samples_in} were sent"
                return
            timeline.arrivals.append(Arrival(head.start, head.frames, at))
            continue
        message = decode(data)
        if isinstance(message, Stats):
            timeline.stats.append((at, message))
        elif isinstance(message, Done):
            timeline.done = message.samples
            return
        elif isinstance(message, Error) and message.fatal:
            timeline.error = f"{message.code}: {message.message}"
            return

"""The processes that feed the sessions, so that neither counting nor knocking nor one busy core holds up a packet."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from clients.bench.door import Refusal, enter
from clients.bench.feed import Feed, Figures
from clients.bench.session import Load


@dataclass(frozen=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    lock: asyncio.Lock

    async def ask(self, *command: Any) -> Any:
        """A command and its answer.

        Raises:
            RuntimeError: the process died.
        """
        async with self.lock:
            try:
                self.pipe.send(command)
                return await asyncio.to_thread(self.pipe.recv)
            except (EOFError, OSError):
                raise RuntimeError(f"the process {self.process.pid} that feeds sessions died") from None


class Crew:
    """Sessions by number of their load, dealt out in turn. `pids`: of its processes."""

    def __init__(self, workers: Sequence[_Worker]) -> None:
        self._workers, self._next = workers, 0

    @property
    def pids(self) -> list[int]:
        return [worker.process.pid or 0 for worker in self._workers]

    async def enter(self, load: int) -> Refusal | float:
        """One session more: the ms until it was ready, or why not. It is fed from then on."""
        worker = self._workers[self._next % len(self._workers)]
        answer: Refusal | float = await worker.ask("enter", load)
        self._next += not isinstance(answer, Refusal)
        return answer

    async def reset(self) -> None:
        """All sessions count from here on."""
        await asyncio.gather(*(worker.ask("reset") for worker in self._workers))

    async def figures(self) -> list[Figures]:
        """Of all sessions since the last reset."""
        return await self._all("figures")

    async def finish(self) -> list[Figures]:
        """Ends all sessions as they should be ended."""
        return await self._all("finish")

    async def _all(self, command: str) -> list[Figures]:
        answers = await asyncio.gather(*(worker.ask(command) for worker in self._workers))
        return [figures for answer in answers for figures in answer]


@asynccontextmanager
async def crew(loads: Sequence[Load], processes: int = 1) -> AsyncIterator[Crew]:
    """So many processes, ready to feed; stopped at the end of the block, whatever their sessions do."""
    context, workers = multiprocessing.get_context("spawn"), []
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_main, args=(theirs, loads), daemon=True)
            process.start()
            theirs.close()
            workers.append(_Worker(process, ours, asyncio.Lock()))
        await asyncio.gather(*(worker.ask("reset") for worker in workers))
        yield Crew(workers)
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            await asyncio.to_thread(worker.process.join, 10)
            worker.process.close()
            worker.pipe.close()


def _main(pipe: Connection, loads: Sequence[Load]) -> None:
    gc.collect()
    gc.freeze()  # what is here stays: collections look only at what sessions made since
    asyncio.run(_work(pipe, loads))


async def _work(pipe: Connection, loads: Sequence[Load]) -> None:
    feeds: list[Feed] = []
    while True:
        try:
            command, *rest = await asyncio.to_thread(pipe.recv)
        except EOFError:  # the conductor is gone
            return
        if command == "enter":
            pipe.send(await _enter(feeds, loads[rest[0]]))
        elif command == "reset":
            for feed in feeds:
                feed.reset()
            pipe.send(None)
        elif command == "figures":
            pipe.send([feed.figures() for feed in feeds])
        elif command == "finish":
            pipe.send(await asyncio.gather(*(feed.finish() for feed in feeds)))


async def _enter(feeds: list[Feed], load: Load) -> Refusal | float:
    answer = await enter(load)
    if isinstance(answer, Refusal):
        return answer
    feeds.append(Feed(answer.socket, answer.ready, load))
    return answer.ms

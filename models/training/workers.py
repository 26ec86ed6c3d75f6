"""Batches drawn ahead of the training loop by other processes, in the order in which it would draw them itself.

Batch k always comes from the generator (seed, k). Worker w of N draws the batches k with k mod N = w and hands each through
a pipe of its own; since a pipe holds less than a batch, a worker is about one batch ahead and then waits.

Processes are spawned, not forked: a fork of a process that has used a GPU, or whose numerical libraries have threads, may
hang. So the task is pickled, and a memory-mapped bank travels as the name of its file.
"""

from __future__ import annotations

import mmap
import multiprocessing
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Batch = tuple[NDArray[Any], ...]
GROUP = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C and `timeout` send these to all processes of a command


class Draws(Protocol):
    """Anything that draws batches; see `Task.batch`."""

    def batch(self, rng: np.random.Generator, size: int) -> Batch: ...


def _mapped(array: np.memmap[Any, Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A whole mapped file by name; a part of one (whose offset numpy does not keep) as numbers."""
    if isinstance(array.base, mmap.mmap) and array.filename is not None:
        order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
        return np.memmap, (array.filename, array.dtype, "r", array.offset, array.shape, order)
    return np.array, (np.asarray(array),)


ForkingPickler.register(np.memmap, _mapped)


def drawn(task: Draws, seed: int, step: int, size: int) -> Batch:
    """Batch number `step`."""
    return task.batch(np.random.default_rng((seed, step)), size)


@contextmanager
def deaf() -> Iterator[None]:
    """Hold back signals to the whole group while processes start, which inherit that."""
    resource_tracker.ensure_running()  # multiprocessing's own; starting it lifts the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(pipe: Connection) -> None:
    """What a worker does until nobody listens any more. An exception is told in place of a batch."""
    try:
        try:
            task, seed, steps, size = pipe.recv()
            if torch := sys.modules.get("torch"):  # some tasks draw with it
                torch.set_num_threads(1)
            for step in steps:
                pipe.send(drawn(task, seed, step, size))
        except Exception:
            pipe.send(traceback.format_exc())
    except (BrokenPipeError, ConnectionResetError, EOFError):
        pass


class Workers:
    """`next()` gives batch `first`, `first + 1`, ... as `Task.batch` would; with no workers, drawn when asked for.

    Use as a context: leaving it ends the processes.

    Raises:
        ValueError: fewer than no workers.
        RuntimeError: a worker ended before it had its task.
    """

    def __init__(self, task: Draws, seed: int, size: int, first: int = 0, workers: int = 0) -> None:
        if workers < 0:
            raise ValueError(f"got {workers} workers, expected 0 (in the loop) or more")
        self.task, self.seed, self.size, self.step = task, seed, size, first
        self.pipes: list[Connection] = []
        self.processes: list[multiprocessing.process.BaseProcess] = []
        self.ready: queue.Queue[Batch | Exception] = queue.Queue(2)
        self.closed = threading.Event()
        self.reader: threading.Thread | None = None
        if workers:
            with deaf():
                for _ in range(workers):
                    self._start()
            try:
                # Not as arguments of the processes: multiprocessing would write to one that has ended, for ever.
                for number, pipe in enumerate(self.pipes):
                    pipe.send((task, seed, count(first + number, workers), size))
            except OSError:
                failed = self._ended(number)
                self.close()
                raise failed from None
            self.reader = threading.Thread(target=self._read, daemon=True)
            self.reader.start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        self.pipes.append(mine)
        self.processes.append(process)

    def _ended(self, number: int) -> RuntimeError:
        self.processes[number].join(5)
        return RuntimeError(f"worker {number} ended with exit code {self.processes[number].exitcode}")

    def _read(self) -> None:
        """Take batches out of the pipes in turn, so that unpacking one goes on beside a step."""
        for turn in count():
            number = turn % len(self.pipes)
            try:
                told = self.pipes[number].recv()
                failed = RuntimeError(f"worker {number} failed:\n{told}") if isinstance(told, str) else None
            except (EOFError, OSError):
                failed = self._ended(number)
            while not self.closed.is_set():
                try:
                    self.ready.put(failed or told, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if failed or self.closed.is_set():
                return

    def next(self) -> Batch:
        """The next batch.

        Raises:
            RuntimeError: a worker failed, with its traceback, or was killed, with its exit code.
        """
        self.step += 1
        if not self.pipes:
            return drawn(self.task, self.seed, self.step - 1, self.size)
        found = self.ready.get()
        if isinstance(found, Exception):
            self.ready.put(found)  # for whoever asks again: nothing more will come
            raise found
        return found

    def close(self) -> None:
        """End all processes."""
        self.closed.set()
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
        if self.reader:
            self.reader.join()
        for pipe in self.pipes:
            pipe.close()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

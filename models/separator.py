"""The contract that every model fulfils, and the facts that it declares about itself.

A separator never sees a stream. It is given a batch of windows, one row a session, and each row's own state, and gives
back the separated windows and the next states. State is a value: opaque to everyone else, never shared, never changed
in place once returned (a cancelled or repeated call must not matter).

The laws (`tests/test_laws.py` holds every registered model to them):

- a row does not depend on its neighbours or on the size of the batch;
- `run` on consecutive windows with carried state equals `run` once on the whole (stateful models);
- finite input gives finite output; silence, DC, full scale and denormals are finite input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from streaming.framing import Array, Framing

State = Any


@dataclass(frozen=True)
class Spec:
    """What a model is.

    Attributes:
        name: as asked for by clients.
        rate: Hz; the only rate that `run` accepts.
        channels: of both input and stems, 1 or 2.
        sources: names of the outputs, in the order of `run`.
        framing: the default way to cut time; every stateful model has just this one.
        windows: for a stateless model, the window lengths in samples that it also runs at, ascending; else empty.
        interchangeable: outputs are speakers without identity, so their order may differ between windows.
        licence: of the weights, as an SPDX identifier or a sentence.
        threads: torch threads that one `run` profits from (0: all of the machine).
        memory: of a stateful model, the samples of the past, before those that a window tells, that shape what is told
            (of a recurrent one: enough that more are not heard). A stream that was cut off is rebuilt from so many.
        version: of the weights, a checksum; empty when unknown.
        size: of the weights in memory, in bytes.
    """

    name: str
    rate: int
    channels: int
    sources: tuple[str, ...]
    framing: Framing
    windows: tuple[int, ...] = ()
    interchangeable: bool = False
    licence: str = "unknown"
    threads: int = 1
    memory: int = 0
    version: str = ""
    size: int = 0


@dataclass(frozen=True)
class Listing:
    """A model as a catalogue shows it, read without its tensors."""

    sources: tuple[str, ...]
    rate: int
    licence: str


class Separator(Protocol):
    """A loaded model. Several threads may call it at once."""

    spec: Spec

    def start(self) -> State:
        """The state before the first sample; `None` for a stateless model."""
        ...

    def run(self, pcm: Array, states: Sequence[State]) -> tuple[Array, list[State]]:
        """Separate one window of each of B sessions.

        Shape:
            pcm: `[B, C, W]` float32, C = spec.channels; W = a framing's window. Never written to.
            states: B values, each from `start` or a previous `run`. Never changed in place.
            returns: stems `[B, S, C, W]` float32, contiguous and owned by the caller, and the B next states.
        """
        ...

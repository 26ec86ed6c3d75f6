"""One model after another: people in a song or over music, with the music taken out first (`vocals -> speakers`).

The first separator gives a stem; the second hears that stem, as mono, in place of the mixture. Both may be of any kind and
rate. To all others this is one stateful separator at the first one's rate and channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models import inner
from models.inner import Inner
from models.separator import Separator, Spec
from models.speakers import Activity, Speakers
from streaming.framing import Array, Framing


@dataclass(frozen=True)
class State:
    """Of one session. `ready` `[S, T]` is known and not told yet; `activity` is what the last run told of who speaks."""

    first: inner.State
    second: inner.State
    ready: Array
    activity: Activity


class Chain:
    """See `Separator`.

    Raises:
        ValueError: a stem that the first does not have.
    """

    def __init__(self, first: Separator, stem: str, second: Speakers, name: str) -> None:
        if stem not in first.spec.sources:
            raise ValueError(f"got stem {stem!r}, {first.spec.name} has {', '.join(first.spec.sources)}")
        one, two = first.spec, second.spec
        self.stem, self.speakers, self.diarizer = one.sources.index(stem), second, second.diarizer
        hop = one.framing.hop
        hop *= max(1, round(two.framing.hop / two.rate * one.rate / hop))  # about a hop of the second at a time
        self.first, self.second = Inner(first, one.rate, hop), Inner(second, one.rate, hop)
        delay = self.first.latency + self.second.latency
        self.spec = Spec(
            name=name,
            rate=one.rate,
            channels=one.channels,
            sources=two.sources,
            framing=Framing(hop, hop, delay=delay),
            licence="; ".join(dict.fromkeys((one.licence, two.licence))),
            threads=one.threads,
            memory=two.memory * one.rate // two.rate + one.memory,
            version=f"{one.version}>{two.version}" if one.version and two.version else "",
            size=one.size + two.size,
        )

    def start(self) -> State:
        second = self.second.start()
        nothing = np.zeros((len(self.spec.sources), self.spec.framing.delay), np.float32)
        return State(self.first.start(), second, nothing, self.speakers.activity(second.inner))

    def activity(self, state: State) -> Activity:
        """As of `Speakers`: frames of 10 ms on this model's own timeline."""
        return state.activity

    def run(self, pcm: Array, states: Sequence[State]) -> tuple[Array, list[State]]:
        """See `Separator.run`; `[B, C, hop*k]` to `[B, S, C, hop*k]`, each track alike on all channels."""
        channels, length = pcm.shape[1], pcm.shape[2]
        stems, firsts, _ = self.first.run(list(pcm), [state.first for state in states])
        voices = [row[self.stem].mean(0, keepdims=True) for row in stems]
        tracks, seconds, passed = self.second.run(voices, [state.second for state in states])
        out, after = [], []
        for n, state in enumerate(states):
            ready = np.concatenate((state.ready, tracks[n][:, 0]), 1)
            activity = self._activity(state, passed[n])
            after.append(State(firsts[n], seconds[n], ready[:, length:], activity))
            out.append(np.repeat(ready[:, None, :length], channels, 1))
        return np.stack(out), after

    def _activity(self, state: State, passed: Sequence[object]) -> Activity:
        """What all runs of the second, none or several, have told."""
        told = [self.speakers.activity(one) for one in passed]  # type: ignore[arg-type]
        start = state.activity.start + len(state.activity.probs)
        nothing = state.activity.probs[:0]
        return Activity(start, np.concatenate((nothing, *(one.probs for one in told))))

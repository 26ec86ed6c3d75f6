"""One live track a person: a separator and a diarizer, stepped together, as one `Separator`.

To all others this is a model like any other: windows of a fixed hop, carried state, a declared delay. Inside, each session
has the state of the separator, which may be of any kind and rate (`models.inner`), of the diarizer, of what people sound
like (`models.speakers_ears`), and of the routing (`streaming.assign`). All sessions of a run go to each of these together.

A separator that tells who speaks may be the diarizer as well (`models.hearing_diarizer`): then it is run once, and its outputs
are the people.

Without a separator it tells who speaks (`activity`) and has no stems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from models import diarizer as contract
from models import inner
from models import speakers_ears as ears
from models.diarizer import Diarizer
from models.hearing_diarizer import HearingDiarizer
from models.inner import Inner
from models.separator import Separator, Spec
from streaming import assign, overlap
from streaming.framing import Array, Framing

RATE = 16000
MEMORY = 30 * RATE  # of a stream that was cut off: enough to meet everybody again in most conversations
PEOPLE = 4
TOGETHER = overlap.Options()
SPEECH, PAUSE = 0.15, RATE  # a probability that may be speech; samples without it before the separator rests


class Encoder(Protocol):
    """What tells voices apart."""

    width: int

    def embed(self, pcm: Sequence[Array]) -> Array:
        """Sounds `[T]` at 16 kHz, each of one voice, to unit vectors `[len(pcm), width]`."""
        ...


class Vad(Protocol):
    """Tells speech from everything else, early and roughly."""

    def start(self) -> Any: ...

    def run(self, pcm: Sequence[Array], states: Sequence[Any]) -> tuple[list[Array], list[Any]]:
        """The next samples of B sessions, `[T]` of any length, to the probabilities of speech that became known, `[F]`."""
        ...


@dataclass(frozen=True)
class Activity:
    """What a run has told of who speaks: `probs` `[F, N]` of the frames of 10 ms from number `start` on."""

    start: int
    probs: Array


@dataclass(frozen=True)
class State:
    """A session. `tracks` `[N, T]` are known and not told yet; `activity` is what the last run told; nobody has spoken for
    `quiet` samples."""

    diarizer: Any
    separator: inner.State | None
    assign: assign.State
    ears: ears.State | None
    mixture: Array
    tracks: Array
    activity: Activity
    overlap: overlap.State | None = None
    vad: Any = None
    quiet: int = 0


class Speakers:
    """See `Separator`.

    Args:
        separator: mono, of interchangeable outputs; None to tell who speaks and nothing else; the `windows` of a
            `HearingDiarizer` to take what the diarizer separates.
        profile: of the diarizer, by name; None: its default.
        people: tracks; those that the diarizer tells beyond them are left out.
        buffer: samples of 16 kHz that are waited for beyond what is needed, to decide better.
        vad: where it has heard no speech for a second, the separator rests; None: it never does.
        memory: samples of 16 kHz from which a stream that was cut off is rebuilt.
        encoder: hears which source is whose; None: only where voices were carried before tells it.
        together: how the sources tell that a second person speaks; None: the diarizer alone tells.

    Raises:
        ValueError: a separator that is not mono, or more people than the diarizer tells apart.
    """

    def __init__(
        self,
        separator: Separator | None,
        diarizer: Diarizer,
        name: str = "speakers",
        profile: str | None = None,
        people: int | None = None,
        buffer: int = 0,
        encoder: Encoder | None = None,
        vad: Vad | None = None,
        options: assign.Options | None = None,
        memory: int = MEMORY,
        together: overlap.Options | None = TOGETHER,
    ) -> None:
        self.people = min(diarizer.spec.speakers, PEOPLE) if people is None else people
        if not 1 <= self.people <= diarizer.spec.speakers:
            raise ValueError(f"got {people} people, {diarizer.spec.name} tells 1 to {diarizer.spec.speakers} apart")
        if separator is not None and separator.spec.channels != 1:
            raise ValueError(f"{separator.spec.name} has {separator.spec.channels} channels, expected a mono separator")
        self.separator, self.diarizer, self.name = separator, diarizer, profile
        self.own = diarizer if isinstance(diarizer, HearingDiarizer) and diarizer.windows is separator else None
        apart = separator is not None and self.own is None
        self.memory, self.vad = memory, vad if apart else None
        self.encoder, self.together = encoder if apart else None, together if apart else None
        self.profile = diarizer.spec.profiles[profile] if profile else next(iter(diarizer.spec.profiles.values()))
        asked = options or assign.Options()
        self.options = replace(asked, wait=max(asked.wait, -(-buffer // assign.FRAME)))
        self.hop = self.profile.chunk_len * contract.STEP
        self.inner = Inner(separator, RATE, self.hop) if separator and apart else None
        self._identity: assign.Evidence = ()
        if self.own:
            self._identity = ((0, np.eye(self.own.spec.speakers, self.people, dtype=np.float32)),)
        self.spec = self._spec(name)

    def _spec(self, name: str) -> Spec:
        """A chunk is known when its right context has come, which is a whole number of hops later."""
        right = self.profile.chunk_right_context * contract.STEP + 40
        late = max(-(-right // self.hop) * self.hop, self.inner.latency if self.inner else 0)
        delay = (self.own.late + 2 * assign.FRAME if self.own else late) + self.options.latency
        separator = None if self.own else self.separator
        parts = [part.spec for part in (separator, self.diarizer) if part is not None]
        sources = [f"speaker_{n + 1}" for n in range(self.people)] if self.separator else []
        return Spec(
            name=name,
            rate=RATE,
            channels=1,
            sources=tuple(sources),
            framing=Framing(self.hop, self.hop, delay=delay),
            licence="; ".join(dict.fromkeys(part.licence for part in parts)),
            threads=min(part.threads for part in parts),
            memory=self.memory,
            version="+".join(part.version for part in parts) if all(part.version for part in parts) else "",
            size=sum(part.size for part in parts),
        )

    def start(self) -> State:
        sources = len(self.separator.spec.sources) if self.separator else 0
        nothing = np.zeros((self.people, 0), np.float32)
        return State(
            self.diarizer.start(self.name),
            self.inner.start() if self.inner else None,
            assign.start(self.options, sources, self.people),
            ears.start(sources, self.people, self.encoder.width) if self.encoder else None,
            np.zeros((1, 0), np.float32),
            np.zeros((self.people, self.spec.framing.delay), np.float32),
            Activity(0, nothing.T),
            overlap.start(sources) if self.together else None,
            self.vad.start() if self.vad else None,
        )

    def activity(self, state: State) -> Activity:
        """What the run that gave this state has told of who speaks, ahead of the tracks."""
        return state.activity

    def run(self, pcm: Array, states: Sequence[State]) -> tuple[Array, list[State]]:
        """See `Separator.run`; `[B, 1, hop*k]` to `[B, N, 1, hop*k]`.

        Raises:
            ValueError: a shape that is not B mono rows of whole hops (the caller's mistake).
        """
        if pcm.ndim != 3 or pcm.shape[:2] != (len(states), 1) or pcm.shape[2] % self.hop or not pcm.shape[2]:
            raise ValueError(f"got pcm {pcm.shape}, expected [{len(states)}, 1, multiple of {self.hop}]")
        current, told, heard = list(states), [], []
        for at in range(0, pcm.shape[2], self.hop):
            tracks, current = self._step(pcm[:, 0, at : at + self.hop], current)
            told.append(tracks)
            heard.append([state.activity for state in current])
        after = [
            replace(state, activity=Activity(row[0].start, np.concatenate([one.probs for one in row])))
            for state, row in zip(current, zip(*heard, strict=True), strict=True)
        ]
        return np.concatenate(told, -1)[:, :, None], after

    def _step(self, pcm: Array, states: Sequence[State]) -> tuple[Array, list[State]]:
        """One hop, `[B, hop]` to tracks `[B, N, hop]`."""
        pcm = np.ascontiguousarray(pcm, np.float32)
        told, diarizers = self.diarizer.run(list(pcm), [state.diarizer for state in states])
        probs = [row[:, : self.people] for row in told]
        states = self._watch(pcm, states, self.vad) if self.vad else states
        sources, separators = self._separate(pcm, states, diarizers)
        after = []
        for n, state in enumerate(states):
            together, heard = self._overlapped(state.overlap, sources[n], probs[n])
            activity = Activity(state.activity.start + len(state.activity.probs), heard)
            parts = {"diarizer": diarizers[n], "separator": separators[n], "overlap": together}
            after.append(replace(state, activity=activity, **parts))
        if self.separator is None:
            return np.zeros((len(states), 0, self.hop), np.float32), after
        after = [self._hear(*row) for row in zip(after, pcm, sources, strict=True)]
        if self.encoder:
            after = self._listen(after, self.encoder)
        rows = [self._tell(state) for state in after]
        return np.stack([tracks for tracks, _ in rows]), [state for _, state in rows]

    def _overlapped(
        self, state: overlap.State | None, sources: Array, probs: Array
    ) -> tuple[overlap.State | None, Array]:
        """Who speaks, `[F, N]`, by the diarizer and by the sources."""
        if state is None or self.together is None:
            return state, probs
        return overlap.tell(self.together, overlap.hear(state, sources), probs)

    def _watch(self, pcm: Array, states: Sequence[State], vad: Vad) -> list[State]:
        """For how long nobody has spoken."""
        told, after = vad.run(list(pcm), [state.vad for state in states])
        return [
            replace(state, vad=one, quiet=0 if (probs > SPEECH).any() else state.quiet + self.hop)
            for state, probs, one in zip(states, told, after, strict=True)
        ]

    def _hear(self, state: State, pcm: Array, sources: Array) -> State:
        """The mixture waits for the sources."""
        mixture = np.concatenate((state.mixture, pcm[None]), 1)
        known = sources.shape[1]
        audio = np.concatenate((mixture[:, :known], sources))
        routing = assign.hear(self.options, state.assign, audio, state.activity.probs)
        return replace(state, assign=routing, mixture=mixture[:, known:])

    def _listen(self, states: Sequence[State], encoder: Encoder) -> list[State]:
        """Voices that have been heard for long enough go to the encoder, of all sessions at once."""
        heard = []
        for state in states:
            assert state.ears is not None
            heard.append(ears.listen(state.ears, state.assign.frame, *assign.known(self.options, state.assign)))
        sounds = [one.sound for _, wanted in heard for one in wanted]
        voices = encoder.embed(sounds) if sounds else np.zeros((0, encoder.width), np.float32)
        after = []
        for state, (listened, wanted) in zip(states, heard, strict=True):
            after.append(replace(state, ears=ears.settle(listened, wanted, voices[: len(wanted)])))
            voices = voices[len(wanted) :]
        return after

    def _tell(self, state: State) -> tuple[Array, State]:
        """The tracks of one hop: all waits for the diarizer."""
        evidence = state.ears.evidence if state.ears else self._identity
        routing, tracks = assign.tell(self.options, state.assign, evidence)
        ready = np.concatenate((state.tracks, tracks), 1)
        listened = ears.told(state.ears, state.assign.frame, routing.frame) if state.ears else None
        rest = replace(state, assign=routing, ears=listened, tracks=ready[:, self.hop :])
        return ready[:, : self.hop], rest

    def _separate(
        self, pcm: Array, states: Sequence[State], diarizers: Sequence[Any]
    ) -> tuple[list[Array], list[inner.State | None]]:
        """What has become known of the sources of each session, `[S, T]` at 16 kHz."""
        if self.own:
            return [state.sources for state in diarizers], [None] * len(states)
        if self.inner is None:
            return [np.zeros((0, 0), np.float32)] * len(states), [None] * len(states)
        carried = [state.separator for state in states if state.separator is not None]
        stems, after, _ = self.inner.run(list(pcm[:, None]), carried, [state.quiet - PAUSE for state in states])
        return [row[:, 0] for row in stems], list(after)

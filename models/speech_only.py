"""A diarizer that has only ever heard speech, kept silent where a voice activity detector hears none.

A diarizer trained on people alone takes music for people: the one that ships tells somebody for half a minute of forty seconds
of instruments. Silero (`models/silero.py`) knows better. What is told at a moment counts in so far as Silero hears speech
around it: from a third of a second before to as far ahead as this profile knows anyway, so that nothing waits for it. The bound
is low, for whoever is faint or telephones: what Silero takes for speech at all stays as it was told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from models import diarizer as contract
from models import fingerprint, silero
from models.diarizer import FRAME, Diarizer, Profile, Spec
from streaming.framing import Array

BEFORE = 10  # steps of 32 ms of Silero's before a frame that count for it
AHEAD = 9  # and after it, where they are known in time
ENOUGH = 0.2  # Silero's probability from which on all counts


@dataclass(frozen=True)
class State:
    """A session. `speech` are Silero's last probabilities, up to step number `steps`; `told`: frames so far."""

    inner: contract.State
    vad: silero.Waiting
    speech: Array
    steps: int
    told: int
    ahead: int

    def counts(self, frames: int) -> Array:
        """How far the next frames count, 0 to 1, `[frames, 1]`."""
        if not frames or not len(self.speech):
            return np.ones((frames, 1), np.float32)
        first = (self.told + np.arange(frames)) * FRAME // silero.STEP - (self.steps - len(self.speech))
        around = first[:, None] + np.arange(-BEFORE, self.ahead + 1)
        heard = np.where((around < 0) | (around >= len(self.speech)), 0, self.speech.take(around, mode="clip"))
        return np.asarray(np.minimum(1, heard.max(1, keepdims=True) / ENOUGH), np.float32)

    def forget(self, frames: int) -> State:
        """These frames are told; what Silero said of the time before the next ones goes."""
        told = self.told + frames
        first = max(0, told * FRAME // silero.STEP - BEFORE)
        return replace(self, told=told, speech=self.speech[max(0, first - (self.steps - len(self.speech))) :].copy())


class SpeechOnly:
    """See `Diarizer`. Weights are shared and never changed."""

    def __init__(self, diarizer: Diarizer, vad: silero.Vad) -> None:
        self.inner, self.vad = diarizer, vad
        spec: Any = diarizer.spec
        beside = fingerprint.identified(spec, vad.network.state_dict().items())
        version = f"{spec.version}+{beside.version}" if spec.version else ""
        self.spec: Spec = replace(
            spec, licence=f"{spec.licence} AND MIT", version=version, size=spec.size + beside.size
        )

    def start(self, profile: str | Profile | None = None) -> State:
        chosen = profile if isinstance(profile, Profile) else self.spec.profile(profile)
        ahead = min(AHEAD, (chosen.chunk_right_context * contract.STEP + 40) // silero.STEP - 1)
        return State(self.inner.start(profile), self.vad.start(), np.zeros(0, np.float32), 0, 0, ahead)

    def run(self, pcm: Sequence[Array], states: Sequence[State]) -> tuple[list[Array], list[State]]:
        """See `Diarizer.run`.

        Raises:
            ValueError: what the diarizer does not take.
        """
        told, inner = self.inner.run(pcm, [state.inner for state in states])
        heard, vads = self.vad.run(pcm, [state.vad for state in states])
        probs, after = [], []
        for state, one, speech, own, vad in zip(states, told, heard, inner, vads, strict=True):
            known = replace(
                state,
                inner=own,
                vad=vad,
                speech=np.concatenate((state.speech, speech)),
                steps=state.steps + len(speech),
            )
            probs.append(one * known.counts(len(one)))
            after.append(known.forget(len(one)))
        return probs, after

    def finish(self, state: State) -> Array:
        rest = self.inner.finish(state.inner)
        (speech,), _ = self.vad.run(
            [np.zeros(silero.STEP - 1, np.float32)], [state.vad]
        )  # what is not a whole step yet
        whole = replace(state, speech=np.concatenate((state.speech, speech)), steps=state.steps + len(speech))
        return np.asarray(rest * whole.counts(len(rest)), np.float32)

    def state_bytes(self, profile: str | Profile | None = None) -> int:
        chosen = profile if isinstance(profile, Profile) else self.spec.profile(profile)
        waiting = chosen.latency + contract.STEP
        carried = 4 * (silero.STEP + silero.BEFORE + 2 * silero.WIDTH)
        return self.inner.state_bytes(profile) + carried + 4 * (BEFORE + 2 + waiting // silero.STEP)

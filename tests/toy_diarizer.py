"""A diarizer without weights whose right answer is known: it tells people apart by the sign and the size of the samples.

Person 0 speaks where samples of at least 0.1 are positive, person 1 where they are negative, person 2 where any exceeds 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.diarizer import FRAME, STEP, Profile, Spec
from streaming.framing import Array


@dataclass(frozen=True)
class State:
    profile: Profile
    waiting: Array
    heard: int = 0
    told: int = 0  # frames


class BySign:
    """See `Diarizer`."""

    def __init__(self, speakers: int = 3) -> None:
        profiles = {"0.32s": Profile(3, 1, 1, 1, 1), "0.64s": Profile(6, 2, 1, 1, 1)}
        self.spec = Spec("by-sign", speakers, profiles, licence="Apache-2.0", version="1")

    def start(self, profile: str | Profile | None = None) -> State:
        found = profile if isinstance(profile, Profile) else self.spec.profiles[profile or "0.32s"]
        return State(found, np.zeros(0, np.float32))

    def run(self, pcm: Sequence[Array], states: Sequence[State]) -> tuple[list[Array], list[State]]:
        rows = [self._one(*pair) for pair in zip(pcm, states, strict=True)]
        return [probs for probs, _ in rows], [state for _, state in rows]

    def _one(self, pcm: Array, state: State) -> tuple[Array, State]:
        waiting, heard, p = np.concatenate((state.waiting, pcm)), state.heard + len(pcm), state.profile
        chunks = max((heard - 40) // STEP - p.chunk_right_context, 0) // p.chunk_len
        fresh = chunks * p.chunk_len * STEP // FRAME - state.told
        blocks = waiting[: fresh * FRAME].reshape(fresh, FRAME)
        seen = ((blocks >= 0.1).any(1), (blocks <= -0.1).any(1), (np.abs(blocks) > 0.5).any(1))
        probs = np.stack(seen[: self.spec.speakers], 1).astype(np.float32) * np.float32(0.9)
        return probs, State(p, waiting[fresh * FRAME :], heard, state.told + fresh)

    def finish(self, state: State) -> Array:
        raise AssertionError("a composite ends by hearing silence")

    def state_bytes(self, profile: str | Profile | None = None) -> int:
        return 4 * 9 * STEP

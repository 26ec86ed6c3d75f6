"""A live diarizer made of a separator that tells who speaks in each window: PixIT's pipeline (J. Kalda et al., Odyssey 2024,
arXiv 2403.02288, section 2), live.

The windows' outputs become people as in `models.stitched`: by the sound that neighbours share, and by voices, whose pieces
are clustered anew at each window. A person is a track, and speaks when the window's own ears say that the output does that
is on it. Unlike in the paper nothing of the future is clustered.

What was separated is not thrown away: `models.speakers` takes both from here, for the price of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models import diarizer, stitched
from models.diarizer import FRAME, STEP, Profile
from models.hearing import Hearing, Padded
from models.separator import Separator
from models.stitched import Embeds, Stitched, framed
from streaming.choose import frame
from streaming.framing import Array, Framing

PEOPLE = 4
RATE = 16000
HALF = FRAME // 2  # frame n is told of so many samples on both sides of sample 160 n


@dataclass(frozen=True)
class State:
    """A session.

    Attributes:
        waiting: `[T]`, less than a hop.
        inner: of the stitched windows.
        spoken: `[S, T]`: the probabilities of samples that are final and in no frame told yet.
        sources: `[S, T]`: what the last run has made final of the sound; runs follow one another from sample 0.
        heard, told: samples and frames in all.
        skip: samples that the windows tell of the time before sample 0.
    """

    waiting: Array
    inner: stitched.State
    spoken: Array
    sources: Array
    heard: int
    told: int
    skip: int


class HearingDiarizer:
    """See `models.diarizer.Diarizer`. There is one profile, that of the windows.

    Raises:
        ValueError: a separator that does not tell who speaks, or of another rate.
    """

    def __init__(self, separator: Separator, encoder: Embeds | None = None, people: int = PEOPLE) -> None:
        spec = separator.spec
        if not isinstance(separator, Hearing) or spec.rate != RATE:
            raise ValueError(
                f"got {spec.name} at {spec.rate} Hz, expected a separator that tells who speaks, at {RATE} Hz"
            )
        apart = encoder.apart if encoder else None
        self.windows = Stitched(Padded(separator, people), apart, framing=stepped(spec.framing))
        self.late = self.windows.spec.framing.delay
        self.hop = self.windows.spec.framing.hop
        profile = Profile(self.hop // STEP, -(-(self.late + HALF - 40) // STEP), 0, 0, 0)
        self.spec = diarizer.Spec(
            spec.name, len(self.windows.spec.sources), {f"{profile.latency_s:.2f}s": profile}, licence=spec.licence,
            threads=spec.threads, version=spec.version, size=spec.size,
        )  # fmt: skip

    def start(self, profile: str | Profile | None = None) -> State:
        (name, only), *_ = self.spec.profiles.items()
        if profile not in (None, name, only):
            raise ValueError(f"got profile {profile!r}, {self.spec.name} has {name}")
        nothing = np.zeros((self.spec.speakers, max(HALF - self.late, 0)), np.float32)
        return State(np.zeros(0, np.float32), self.windows.start(), nothing, nothing[:, :0], 0, 0, self.late)

    def run(self, pcm: Sequence[Array], states: Sequence[State]) -> tuple[list[Array], list[State]]:
        """See `Diarizer.run`.

        Raises:
            ValueError: see `Spec.check`.
        """
        self.spec.check(pcm, states)
        after = [
            replace(state, waiting=np.concatenate((state.waiting, one)), heard=state.heard + len(one))
            for state, one in zip(states, pcm, strict=True)
        ]
        final: list[list[Array]] = [[np.zeros((2, self.spec.speakers, 0), np.float32)] for _ in states]
        while due := [n for n, state in enumerate(after) if len(state.waiting) >= self.hop]:
            for n, (told, state) in zip(due, self._step([after[n] for n in due]), strict=True):
                final[n].append(told)
                after[n] = state
        rows = [_told(state, np.concatenate(parts, 2)) for state, parts in zip(after, final, strict=True)]
        return [probs for probs, _ in rows], [state for _, state in rows]

    def finish(self, state: State) -> Array:
        """See `Diarizer.finish`: what is left, as if silence followed."""
        left = state.heard // FRAME - state.told
        profile = next(iter(self.spec.profiles.values()))
        (probs,), _ = self.run([np.zeros(profile.latency + self.hop, np.float32)], [state])
        return probs[:left].copy()

    def state_bytes(self, profile: str | Profile | None = None) -> int:
        """The most that a state holds, in bytes, beside the sound that the last run told."""
        framing, outputs = self.windows.framing, self.spec.speakers
        inner = framing.window * (1 + outputs) + outputs * (2 * framing.fade + 3 * self.hop)
        return 4 * (inner + self.hop + FRAME * outputs + self.windows.rules.most * (512 + 8))

    def _step(self, states: Sequence[State]) -> list[tuple[Array, State]]:
        """One window of each session: sound and probabilities that are final by it, `[2, S, hop]`."""
        pcm = np.stack([state.waiting[: self.hop] for state in states])
        stems, inner = self.windows.run(pcm[:, None], [state.inner for state in states])
        out = []
        for state, sound, after in zip(states, stems[:, :, 0], inner, strict=True):
            assert after.spoken is not None
            told = np.stack((sound, after.spoken))
            out.append((told, replace(state, waiting=state.waiting[self.hop :].copy(), inner=after)))
        return out


def _told(state: State, final: Array) -> tuple[Array, State]:
    """The frames of which all samples are final, `[F, S]`; `final` `[2, S, T]` are sound and probabilities."""
    skip, early = (min(max(state.skip - back, 0), final.shape[2]) for back in (0, HALF))
    spoken = np.concatenate((state.spoken, final[1, :, early:]), 1)
    count = spoken.shape[1] // FRAME
    rest, sources = spoken[:, count * FRAME :].copy(), final[0, :, skip:].copy()
    after = replace(state, spoken=rest, sources=sources, told=state.told + count, skip=state.skip - skip)
    return framed(spoken, FRAME).T.astype(np.float32), after


def stepped(framing: Framing) -> Framing:
    """The nearest with whole steps of 80 ms for a hop; lookahead and fade as they are."""
    hop = max(1, framing.hop // STEP) * STEP
    return frame(framing.window, hop, framing.lookahead, framing.fade)

"""A live diarizer for any number of people, from a published voice activity network, a published speaker encoder, and a small
network of ours between them. Needs no download.

Every 0.4 s it hears the last two seconds. Silero says where there is speech, the encoder whose voice some windows of 0.8 to
1.6 s are like, `voices_network` who of the known people speaks at each moment (several at once, too), and
`streaming.clusters` learns the voices and finds new ones. With a profile that looks further ahead, a chunk is judged
again at the last moment, when more is known of who there is.

All that is heard is kept for two seconds, and of each person one vector, so a state is small and never grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models import fingerprint, silero, voices_file
from models.diarizer import FRAME, STEP, Profile, Spec
from models.voiceprint import BANDS, LENGTH, REACH, WIDTH, WINDOW, Encoder, Mel, levelled
from models.voices_network import FIRST, LAST, SEGMENT, STACK, VIEWS, Listener
from models.voices_state import CHUNK, FAR, HOP, Judged, State, check, judgings
from streaming import clusters
from streaming.framing import Array

SPEAKERS = 8
SHORT = 80  # frames of the shortest window that is embedded
VIEWED = (160, 120, 80)  # frames of the long window after which it is embedded
FAINT = 0.1  # Silero's probability below which there is nothing
NEARBY = 20  # frames around
LEAST = 0.1  # the probability below which somebody is out of the question
PROFILES = {f"{(CHUNK + right) * 0.08:.2f}s": Profile(CHUNK, right, 0, 1, 0) for right in (8, 3, 18, 33)}


class Segment(NamedTuple):
    """Two seconds of B sessions: `[B, 200, 41]`, Silero's probabilities `[B, 200]`, and `[B, 8, 256]`."""

    frames: Tensor
    speech: Tensor
    views: Tensor


class VoicesDiarizer:
    """See `Diarizer`. Weights are shared and never changed."""

    def __init__(
        self,
        vad: silero.Vad,
        encoder: Encoder,
        listener: Listener,
        speakers: int = SPEAKERS,
        options: clusters.Options | None = None,
        name: str = "voices",
    ) -> None:
        self.vad, self.encoder, self.listener, self.mel = vad, encoder, listener, Mel()
        self.options = options or clusters.Options()
        weights = [*vad.network.state_dict().items(), *encoder.state_dict().items(), *listener.state_dict().items()]
        spec: Any = Spec(name, speakers, PROFILES, licence="Apache-2.0 AND MIT AND CC-BY-4.0")
        self.spec: Spec = fingerprint.identified(spec, weights)  # type: ignore[assignment]  # of two fields it has

    def profile(self, chosen: str | Profile | None) -> Profile:
        """A profile by name, a checked one of the caller's own, or the first.

        Raises:
            ValueError: no such name, or parameters that cannot be.
        """
        return check(chosen) if isinstance(chosen, Profile) else self.spec.profile(chosen)

    def start(self, profile: str | Profile | None = None) -> State:
        none = np.zeros(0, np.float32)
        return State(
            self.profile(profile), 0, 0, (np.zeros(REACH, np.float32),), REACH, self.vad.start(), none,
            torch.zeros(SEGMENT, BANDS + 1), torch.zeros(VIEWS // 2, WIDTH), clusters.start(self.spec.speakers, WIDTH), (),
        )  # fmt: skip

    def run(self, pcm: Sequence[Array], states: Sequence[State]) -> tuple[list[Array], list[State]]:
        """See `Diarizer.run`.

        Raises:
            ValueError: see `Spec.check`.
        """
        self.spec.check(pcm, states)
        after = self._hear(pcm, states)
        told: list[list[Array]] = [[np.zeros((0, self.spec.speakers), np.float32)] for _ in states]
        with torch.inference_mode():
            while due := [n for n, state in enumerate(after) if state.due]:
                for n, (probs, state) in zip(due, self._step([after[n] for n in due]), strict=True):
                    told[n].append(probs)
                    after[n] = state
        return [np.concatenate(parts) for parts in told], after

    def finish(self, state: State) -> Array:
        """See `Diarizer.finish`: what is left, as if silence followed."""
        left = state.heard // FRAME - max(0, state.steps - judgings(state.profile)) * HOP
        (probs,), _ = self.run([np.zeros(state.profile.latency + HOP * FRAME, np.float32)], [state])
        return probs[:left].copy()

    def state_bytes(self, profile: str | Profile | None = None) -> int:
        """The most a state of this profile holds between two calls, in bytes."""
        chosen = self.profile(profile)
        judged = (LAST - FIRST) // 2 * (2 * self.listener.gru2.hidden_size + 2) + VIEWS * WIDTH
        waiting = judgings(chosen) * judged
        heard = (CHUNK + FAR) * STEP + REACH + WINDOW + silero.STEP
        network = silero.BEFORE + 2 * silero.WIDTH
        kept = SEGMENT * (BANDS + 1) + VIEWS // 2 * WIDTH + waiting + heard + SEGMENT + network
        people = clusters.start(self.spec.speakers, WIDTH).bytes
        return 4 * kept + people + self.options.patience * (4 * WIDTH + 8)

    def _hear(self, pcm: Sequence[Array], states: Sequence[State]) -> list[State]:
        """Keep the new samples; Silero hears them at once, of all sessions."""
        told, vads = self.vad.run(pcm, [state.vad for state in states])
        return [
            replace(
                state,
                heard=state.heard + len(one),
                pcm=(*state.pcm, one.copy()),
                held=state.held + len(one),
                vad=vad,
                speech=np.concatenate((state.speech, probs)),
            )
            if len(one)
            else state
            for one, state, probs, vad in zip(pcm, states, told, vads, strict=True)
        ]

    def _step(self, states: Sequence[State]) -> list[tuple[Array, State]]:
        """Two seconds of each session: learn from them, and tell a chunk if one is due."""
        states = self._framed(states)
        segment = self._segment(states)
        sounds = self.listener.sounds(segment.frames, segment.speech)
        whose = self._whose(sounds.hidden, segment.views, [state.people for state in states])
        speech = sounds.speech[..., 0].sigmoid() * _lively(segment.speech)
        after = []
        for n, state in enumerate(states):
            heard = self._heard(segment, sounds.pure, whose, n)
            told = state.chunk
            chunk = Judged(sounds.hidden[n, told].clone(), speech[n, told].clone(), segment.views[n].clone())
            after.append(
                replace(
                    state,
                    steps=state.steps + 1,
                    views=segment.views[n, : VIEWS // 2].clone(),
                    people=clusters.observe(self.options, state.people, heard),
                    waiting=(*state.waiting, chunk),
                )
            )
        return self._tell(after)

    def _framed(self, states: Sequence[State]) -> list[State]:
        """The mel frames up to the end of the next segment."""
        after = []
        for state in states:
            fresh, pcm = state.end() - state.end(-1), np.concatenate(state.pcm)
            mels = self.mel(torch.from_numpy(pcm[: fresh * FRAME + WINDOW - FRAME])[None])[0]
            after.append(
                replace(
                    state,
                    pcm=(pcm[fresh * FRAME :].copy(),),
                    held=state.held - fresh * FRAME,
                    frames=torch.cat((state.frames, mels))[-SEGMENT:].clone(),
                    speech=state.speech[-state.needed :].copy(),
                )
            )
        return after

    def _segment(self, states: Sequence[State]) -> Segment:
        """The last two seconds; embeddings only where Silero heard anything at all."""
        frames = torch.stack([state.frames for state in states])
        speech = torch.from_numpy(np.stack([state.spoken() for state in states]))
        fresh = torch.zeros(len(states), VIEWS // 2, WIDTH)
        lively = (speech[:, -LENGTH:] > FAINT).any(1)
        if lively.any():
            long, short = levelled(frames[lively, -LENGTH:]), levelled(frames[lively, -SHORT:])
            views = torch.cat((self.encoder.after(long, VIEWED), self.encoder(short)[:, None]), 1)
            fresh[lively] = self.listener.voices(views)
        before = torch.stack([state.views for state in states])
        return Segment(frames, speech, torch.cat((fresh, before), 1))

    def _whose(self, hidden: Tensor, views: Tensor, people: Sequence[clusters.State]) -> Tensor:
        """Probabilities `[B, steps, K]` that each person speaks; of nobody's slot, 0."""
        sums = torch.from_numpy(np.stack([one.centroids for one in people]))
        counts = torch.from_numpy(np.stack([one.counts for one in people]))
        near = torch.from_numpy(np.stack([one.coherence for one in people]))
        return self.listener.whose(hidden, views, sums, counts, near).sigmoid() * (counts > 0)[:, None]

    def _heard(self, segment: Segment, pure: Tensor, whose: Tensor, row: int) -> clusters.Heard:
        """What the clusters are told of the newest window of 1.6 s."""
        speaking = segment.speech[row, -LENGTH:]
        return clusters.Heard(
            segment.views[row, 0].numpy().copy(),
            float((speaking > 0.5).float().mean()),
            float(pure[row].sigmoid()),
            whose[row].mean(0).numpy().copy(),
        )

    def _tell(self, states: Sequence[State]) -> list[tuple[Array, State]]:
        """The oldest waiting chunk of each session that has enough, judged by all that is known by now."""
        ready = [n for n, state in enumerate(states) if len(state.waiting) > judgings(state.profile)]
        told = [(np.zeros((0, self.spec.speakers), np.float32), state) for state in states]
        if ready:
            chunks = [states[n].waiting[0] for n in ready]
            hidden, views = torch.stack([one.hidden for one in chunks]), torch.stack([one.views for one in chunks])
            whose = self._whose(hidden, views, [states[n].people for n in ready])
            for n, probs, chunk in zip(ready, whose, chunks, strict=True):
                rest = replace(states[n], waiting=states[n].waiting[1:])
                told[n] = (_spread(probs, chunk.speech, rest.people), rest)
        return told


def _lively(speech: Tensor) -> Tensor:
    """Whether Silero hears anything within 0.2 s of each step that is told, `[B, 200] -> [B, 20]`, 0 or 1.

    It knows silence of all kinds better than a network that has heard meetings.
    """
    near = nn.functional.max_pool1d(speech[:, None], 2 * NEARBY + 1, 1, NEARBY)[:, 0]
    return (near.unflatten(1, (-1, STACK)).amax(2)[:, FIRST:LAST] > FAINT).float()


def _spread(probs: Tensor, speech: Tensor, people: clusters.State) -> Array:
    """What is told of ten steps, `[10, K]` -> `[40, K]`.

    Somebody speaks where there is speech: if nobody is likely, the likeliest, unless all are out of the question. Whoever
    speaks before anybody is known will be the first.
    """
    probs = probs * (speech > 0)[:, None]
    if not people.live.any():
        probs[:, 0] = speech
    best, who = probs.max(1)
    taken = (best < 0.5) & (best > LEAST) & (speech > 0.5)
    probs[taken, who[taken]] = speech[taken]
    return np.repeat(probs.numpy(), STACK, 0).astype(np.float32)


def load(name: str = "voices", speakers: int = SPEAKERS) -> VoicesDiarizer:
    """The diarizer with the embedded weights, for at most so many people.

    Raises:
        FileNotFoundError, ValueError: the weights are not there, or not these networks'.
    """
    encoder, listener = voices_file.load(Encoder(), "encoder"), voices_file.load(Listener(), "listener")
    return VoicesDiarizer(silero.load(), encoder, listener, speakers, name=name)

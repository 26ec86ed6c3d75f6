"""The streaming Sortformer as a `Diarizer`: many sessions a step, each at its own point and with its own parameters.

One step of a session hears [speakers' cache | recent frames | left context | chunk | right context] and tells the chunk;
that is the published streaming (I. Medennikov et al., "Streaming Sortformer", 2025, arXiv:2507.18446) as transformers
5.23 has it. Frames before the network's first layer do not depend on each other, so they are made once and kept; all
else is heard anew at each step, because every frame attends to every other.

Everything of a session is in its state. Sessions that have a whole chunk are laid end to end for the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models import sortformer_file
from models.diarizer import FRAME, Profile, Spec
from models.sortformer_cache import compress
from models.sortformer_features import BEFORE, REACH, LogMel
from models.sortformer_network import STACK, Config, Sortformer, rows
from streaming.framing import Array

# Beyond so many frames in one pass a CPU's caches overflow: 16 sessions of 430 took 49 ms each, alone 41 (docs).
TOGETHER = {"cpu": 1024}


@dataclass(frozen=True)
class State:
    """One session between two calls.

    Attributes:
        profile: its parameters.
        pcm: samples from 201 before the middle of the first frame of 10 ms that is not in `frames` yet; `held` in all.
        frames: `[n, D]`, the left context (`left` of them), then those not told yet.
        fifo: `[n, D]`, recent frames.
        cache: `[n, D]`, kept frames; `probs [n, speakers]` are theirs, none before the first compression: until then the
            cache is the plain past, which each step judges anew.
    """

    profile: Profile
    pcm: tuple[Array, ...]
    held: int
    frames: Tensor
    left: int
    fifo: Tensor
    cache: Tensor
    probs: Tensor | None = None

    @property
    def bytes(self) -> int:
        """What it holds, without Python's share."""
        tensors = [self.frames, self.fifo, self.cache] + ([] if self.probs is None else [self.probs])
        return 4 * (sum(part.numel() for part in tensors) + self.held)


@dataclass(frozen=True)
class Step:
    """One session about to be heard: `told` frames of its `state.frames` after the left context."""

    state: State
    told: int

    @property
    def length(self) -> int:
        return len(self.state.cache) + len(self.state.fifo) + len(self.state.frames)

    @property
    def chunk(self) -> int:
        """Where the chunk begins in what is heard."""
        return len(self.state.cache) + len(self.state.fifo) + self.state.left

    @property
    def popped(self) -> int:
        """Frames that leave the recent ones for the cache: none as long as there is room, then a period's worth."""
        recent, p = len(self.state.fifo) + self.told, self.state.profile
        return 0 if recent <= p.fifo_len else min(max(p.spkcache_update_period, recent - p.fifo_len), recent)

    @property
    def asked(self) -> tuple[int, int]:
        """Frames whose probabilities matter: the chunk, and all that are judged when frames go to the cache."""
        return (0 if self.popped else self.chunk, self.chunk + self.told)


def check(profile: Profile, config: Config) -> Profile:
    """The profile, if this network can be used so.

    Raises:
        ValueError: naming the parameter, what was given and what is possible.
    """
    pause = config.policy.spkcache_sil_frames_per_spk
    least = {
        "chunk_len": 1,
        "chunk_left_context": 0,
        "chunk_right_context": 0,
        "fifo_len": 0,
        "spkcache_update_period": 1,
        "spkcache_len": (1 + pause) * config.speakers,
    }
    for name, bound in least.items():
        value = getattr(profile, name)
        if isinstance(value, bool) or not isinstance(value, int) or value < bound:
            raise ValueError(f"got {name} {value!r}, expected a whole number of frames of 80 ms, at least {bound}")
    p = profile
    heard = p.spkcache_len + p.fifo_len + p.chunk_left_context + p.chunk_len + p.chunk_right_context
    if heard > config.positions:
        raise ValueError(f"got parameters that add up to {heard} frames a step, this network hears {config.positions}")
    return profile


class SortformerDiarizer:
    """See `Diarizer`. Weights are shared and never changed; `network` may be on any device, in float32."""

    def __init__(self, network: Sortformer, profiles: Mapping[str, Profile], spec: Spec) -> None:
        self.network = network.eval().requires_grad_(False)
        self.config = network.config
        self.mel = LogMel(self.config.front).to(network.silence.device)
        self.spec = replace(spec, profiles={name: check(one, self.config) for name, one in profiles.items()})
        self.together = TOGETHER.get(network.silence.device.type, 1 << 20)

    def profile(self, chosen: str | Profile | None) -> Profile:
        """A profile by name, a checked one of the caller's own, or the first.

        Raises:
            ValueError: no such name, or parameters that cannot be.
        """
        return check(chosen, self.config) if isinstance(chosen, Profile) else self.spec.profile(chosen)

    def start(self, profile: str | Profile | None = None) -> State:
        with torch.inference_mode():
            none = self.network.silence.new_zeros(0, self.config.hidden)
        before = np.zeros(BEFORE, np.float32)
        return State(self.profile(profile), (before,), BEFORE, none, 0, none, none)

    def run(self, pcm: Sequence[Array], states: Sequence[State]) -> tuple[list[Array], list[State]]:
        """See `Diarizer.run`.

        Raises:
            ValueError: see `Spec.check`.
        """
        self.spec.check(pcm, states)
        after = [self._hear(*pair) for pair in zip(pcm, states, strict=True)]
        told: list[list[Array]] = [[] for _ in states]
        with torch.inference_mode():
            while due := [n for n, state in enumerate(after) if self._due(state)]:
                steps = [Step(state, state.profile.chunk_len) for state in self._embed([after[n] for n in due])]
                for n, (probs, state) in zip(due, self._step(steps), strict=True):
                    told[n].append(probs)
                    after[n] = state
        none = np.zeros((0, self.config.speakers), np.float32)
        return [np.concatenate((none, *parts)) for parts in told], after

    def finish(self, state: State) -> Array:
        """See `Diarizer.finish`: what is left is one chunk without right context."""
        with torch.inference_mode():
            waiting = (len(state.frames) - state.left) * STACK
            fresh = (state.held - BEFORE) // FRAME  # frames of 10 ms that begin before the end
            if not waiting + fresh:
                return np.zeros((0, self.config.speakers), np.float32)
            if fresh:
                mel = self.mel(self.mel.cut(self._tensor(np.concatenate(state.pcm)), fresh))
                state = replace(state, frames=torch.cat((state.frames, self.network.frames(mel))))
            ((probs, _),) = self._step([Step(state, len(state.frames) - state.left)])
            return probs[: waiting + fresh]  # the last frame of 80 ms may be filled up

    def state_bytes(self, profile: str | Profile | None = None) -> int:
        """The most a state of this profile holds between two calls, in bytes."""
        p, c = self.profile(profile), self.config
        frames = p.spkcache_len + p.fifo_len + p.chunk_left_context + p.chunk_right_context
        samples = (p.chunk_len + p.chunk_right_context) * STACK * FRAME + BEFORE + REACH
        return 4 * (frames * c.hidden + p.spkcache_len * c.speakers + samples)

    def _hear(self, pcm: Array, state: State) -> State:
        return replace(state, pcm=(*state.pcm, pcm.copy()), held=state.held + len(pcm)) if len(pcm) else state

    def _lacking(self, state: State) -> int:
        """Frames of 10 ms to be made before the session's next step."""
        p = state.profile
        return (p.chunk_len + p.chunk_right_context + state.left - len(state.frames)) * STACK

    def _due(self, state: State) -> bool:
        return state.held >= BEFORE + REACH + (self._lacking(state) - 1) * FRAME

    def _tensor(self, pcm: Array) -> Tensor:
        return torch.from_numpy(pcm).to(self.network.silence.device)

    def _embed(self, states: Sequence[State]) -> list[State]:
        """The frames of the next chunk and its right context, of all sessions at once."""
        counts = [self._lacking(state) for state in states]
        joined = [np.concatenate(state.pcm) for state in states]
        pieces = [self.mel.cut(self._tensor(pcm), count) for pcm, count in zip(joined, counts, strict=True)]
        fresh = self.network.frames(self.mel(torch.cat(pieces))).split([count // STACK for count in counts])
        return [
            replace(
                state,
                pcm=(pcm[count * FRAME :].copy(),),
                held=state.held - count * FRAME,
                frames=torch.cat((state.frames, frames)),
            )
            for state, pcm, frames, count in zip(states, joined, fresh, counts, strict=True)
        ]

    def _step(self, steps: Sequence[Step]) -> list[tuple[Array, State]]:
        """Probabilities `[told * 8, speakers]` and the next state of each session, as many in one pass as is fast."""
        done: list[tuple[Array, State]] = []
        while len(done) < len(steps):
            taken, length = 0, 0
            for step in steps[len(done) :]:
                length += step.length
                if taken and length > self.together:
                    break
                taken += 1
            done += self._pass(steps[len(done) : len(done) + taken])
        return done

    def _pass(self, steps: Sequence[Step]) -> list[tuple[Array, State]]:
        heard = torch.cat([part for one in steps for part in (one.state.cache, one.state.fifo, one.state.frames)])
        session = rows([one.length for one in steps], [one.asked for one in steps])
        logits = self.network(heard, session)
        probs = logits.sigmoid().split([(row.last - row.first) * STACK for row in session])
        return [
            (part[-step.told * STACK :].cpu().numpy().copy(), self._after(step, part))
            for step, part in zip(steps, probs, strict=True)
        ]

    def _after(self, step: Step, probs: Tensor) -> State:
        """The state after a step; `probs [n, speakers]` are of `step.asked`, 10 ms each."""
        state, p = step.state, step.state.profile
        chunk = state.frames[state.left : state.left + step.told]
        fifo, cache, kept = torch.cat((state.fifo, chunk)), state.cache, state.probs
        if popped := step.popped:
            mean = probs.view(-1, STACK, self.config.speakers).mean(1)
            recent = torch.cat((mean[len(cache) : len(cache) + len(state.fifo)], mean[step.chunk :]))
            kept = torch.cat((mean[: len(cache)] if kept is None else kept, recent[:popped]))
            cache, fifo = torch.cat((cache, fifo[:popped])), fifo[popped:].clone()
            if len(cache) > p.spkcache_len:
                cache, kept = compress(cache, kept, p.spkcache_len, self.network.silence, self.config.policy)
            elif state.probs is None:
                kept = None
        left = min(p.chunk_left_context, state.left + step.told)
        frames = state.frames[state.left + step.told - left :].clone()
        return replace(state, frames=frames, left=left, fifo=fifo, cache=cache, probs=kept)


def load(source: str | Path, name: str = "diarize", device: str = "cpu") -> SortformerDiarizer:
    """The diarizer of a folder as transformers writes it, a `.nemo` file, or a name that is in the local hub cache.

    Raises:
        FileNotFoundError: nothing there, saying what was expected and how to get it.
        ValueError: of another format or architecture, or tensors that do not fit.
    """
    found = sortformer_file.read(source)
    network = Sortformer(found.config)
    network.load_state_dict(found.weights)
    spec = sortformer_file.describe(name, found)
    return SortformerDiarizer(network.to(device), found.profiles, spec)

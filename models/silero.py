"""Is anybody speaking: Silero's voice activity network, many sessions at once, with its state as a value.

Weights and architecture are those of Silero VAD 6 at 16 kHz (Silero Team, MIT, PyPI `silero-vad`; the card in
`embedded/voiceprint`): the magnitudes of a short spectrum, four convolutions, one LSTM cell, for each 512 samples and the
64 before them. The package keeps the state inside its module, one caller a module; here it goes in and comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from models import voices_file
from streaming.framing import Array

STEP = 512  # samples of one probability
BEFORE = 64  # samples heard a second time
WIDTH = 128
FFT, HOP = 256, 128


class State(NamedTuple):
    """Of B sessions: the last samples `[B, 64]`, and the LSTM's output and cell, each `[B, 128]`."""

    before: Tensor
    hidden: Tensor
    cell: Tensor


class Silero(nn.Module):
    """Probability of speech in each 32 ms."""

    def __init__(self) -> None:
        super().__init__()
        bins = FFT // 2 + 1
        self.stft_conv = nn.Conv1d(1, 2 * bins, FFT, HOP, bias=False)
        self.conv1 = nn.Conv1d(bins, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, WIDTH, 3, padding=1)
        self.lstm_cell = nn.LSTMCell(WIDTH, WIDTH)
        self.final_conv = nn.Conv1d(WIDTH, 1, 1)

    def start(self, batch: int = 1) -> State:
        """Silence before the first sample."""
        weight = self.final_conv.weight
        return State(weight.new_zeros(batch, BEFORE), weight.new_zeros(batch, WIDTH), weight.new_zeros(batch, WIDTH))

    def forward(self, pcm: Tensor, state: State) -> tuple[Tensor, State]:
        """`[B, 512 n]` and the state before it -> probabilities `[B, n]` and the state after it.

        Raises:
            ValueError: not whole steps.
        """
        if pcm.shape[1] % STEP:
            raise ValueError(f"got {pcm.shape[1]} samples, expected a multiple of {STEP}")
        heard = torch.cat((state.before, pcm), 1)
        frames = self._features(heard.unfold(1, BEFORE + STEP, STEP))
        _, hidden, cell = state
        told = []
        for frame in frames.unbind(1):
            hidden, cell = self.lstm_cell(frame, (hidden, cell))
            told.append(self.final_conv(hidden.relu()[..., None])[:, 0].sigmoid())
        probs = torch.cat(told, 1) if told else pcm.new_zeros(len(pcm), 0)
        return probs, State(heard[:, -BEFORE:], hidden, cell)

    def _features(self, cuts: Tensor) -> Tensor:
        """`[B, n, 576]` -> `[B, n, 128]`; steps do not know of each other before the LSTM."""
        if not cuts.shape[1]:
            return cuts.new_zeros(len(cuts), 0, WIDTH)
        mirrored = nn.functional.pad(cuts.flatten(0, 1), (0, FFT - HOP - BEFORE), "reflect")
        real, imaginary = self.stft_conv(mirrored[:, None]).chunk(2, 1)
        found = (real.square() + imaginary.square()).sqrt()
        for layer in (self.conv1, self.conv2, self.conv3, self.conv4):
            found = layer(found).relu()
        return found[..., 0].unflatten(0, cuts.shape[:2])


@dataclass(frozen=True)
class Waiting:
    """One session of `Vad`: the samples of a step that is not whole yet, `[T]`, and the network's state, of one row."""

    pcm: Array
    state: State


class Vad:
    """Speech in streams of any packets, all sessions in one call. See `models.speakers.Vad`."""

    def __init__(self, network: Silero) -> None:
        self.network = network

    def start(self) -> Waiting:
        return Waiting(np.zeros(0, np.float32), self.network.start())

    def run(self, pcm: Sequence[Array], states: Sequence[Waiting]) -> tuple[list[Array], list[Waiting]]:
        """The next samples of B sessions, `[T]` at 16 kHz, to the probabilities that became known, each of 512 samples."""
        heard = [np.concatenate((state.pcm, one)) for state, one in zip(states, pcm, strict=True)]
        told: list[Array] = [np.zeros(0, np.float32)] * len(heard)
        after = [Waiting(one[len(one) // STEP * STEP :].copy(), s.state) for one, s in zip(heard, states, strict=True)]
        with torch.inference_mode():
            for steps in {len(one) // STEP for one in heard} - {0}:  # sessions with as many steps in one pass
                same = [n for n, one in enumerate(heard) if len(one) // STEP == steps]
                rows = torch.from_numpy(np.stack([heard[n][: steps * STEP] for n in same]))
                carried = [torch.cat(part) for part in zip(*(states[n].state for n in same), strict=True)]
                probs, (before, hidden, cell) = self.network(rows, State(*carried))
                for row, n in enumerate(same):
                    told[n] = probs[row].numpy().copy()
                    own = State(*(part[row : row + 1].clone() for part in (before, hidden, cell)))
                    after[n] = Waiting(after[n].pcm, own)
        return told, after


def load() -> Vad:
    """The embedded weights."""
    return Vad(voices_file.load(Silero(), "silero"))

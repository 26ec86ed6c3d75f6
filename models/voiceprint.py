"""Whose voice is this: Resemblyzer's encoder, from mel frames that are made once, for many windows at a time.

Weights and architecture are those of Resemblyzer 0.1.4 (C. Jemine, Apache-2.0, PyPI `resemblyzer`; the card in
`embedded/voiceprint`), which follow L. Wan et al., "Generalized end-to-end loss for speaker verification", 2018,
arXiv:1710.10467: three LSTM layers over the power in 40 mel bands; the last state, projected, clipped below and brought to
unit length.

The encoder was trained on voices at -30 dB, and its input is power, so level matters. Frames are kept as heard, each with
its own level; a window is brought to -30 dB when it is embedded, whatever else was heard before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from models import voices_file
from models.sortformer_features import mel_filters
from streaming.framing import Array

BANDS, WIDTH = 40, 256
HOP, WINDOW = 160, 400  # samples between frames, and of one
REACH = WINDOW // 2  # samples before and after the middle of a frame
LENGTH = 160  # frames of the windows that it was trained on
LEVEL = 1e-3  # the power of -30 dB
FAINT = 1e-8  # the power below which nothing is amplified further


class Mel(nn.Module):
    """Power in 40 mel bands of a Hann window of 25 ms, and of all of it. Has nothing to learn."""

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = torch.from_numpy(mel_filters(BANDS, fft=WINDOW).astype(np.float32))
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, pcm: Tensor) -> Tensor:
        """Frames of samples that begin 200 before the middle of the first: `[B, 160 n + 240] -> [B, n, 41]`."""
        cuts = pcm.unfold(1, WINDOW, HOP)
        spectrum = torch.view_as_real(torch.fft.rfft(cuts * self.window))
        power = spectrum.square().sum(-1) @ self.filters
        return torch.cat((power, cuts.square().mean(-1, keepdim=True)), -1)


class Encoder(nn.Module):
    """`[N, T, 40]` power at -30 dB -> unit vectors `[N, 256]`."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, WIDTH, 3, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, mels: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mels)
        return self.voice(hidden[-1])

    def after(self, mels: Tensor, frames: Sequence[int]) -> Tensor:
        """What is known after so many frames of each window, `[N, len(frames), 256]`: shorter windows for nothing."""
        hidden, _ = self.lstm(mels)
        return self.voice(hidden[:, [count - 1 for count in frames]])

    def voice(self, hidden: Tensor) -> Tensor:
        """The last layer's state `[..., 256]` as a unit vector."""
        return nn.functional.normalize(self.linear(hidden).relu(), dim=-1)


def levelled(frames: Tensor) -> Tensor:
    """Windows of `Mel`'s frames at -30 dB, `[N, T, 41] -> [N, T, 40]`."""
    power = frames[..., BANDS].mean(1).clamp(min=FAINT)
    return frames[..., :BANDS] * (LEVEL / power)[:, None, None]


class Voiceprint:
    """The encoder for whole sounds: see `models.speakers.Encoder`. Several threads may call it at once.

    A sound longer than 1.6 s is the mean of windows that overlap by half, as the encoder was trained to be used.

    `centre` `[256]` is what all voices have in common.
    """

    width = WIDTH

    def __init__(self, encoder: Encoder, centre: Array) -> None:
        self.encoder, self.mel, self.centre = encoder, Mel(), centre

    def embed(self, pcm: Sequence[Array]) -> Array:
        """Sounds `[T]` at 16 kHz, each of one voice, to unit vectors `[len(pcm), 256]`."""
        with torch.inference_mode():
            each = [self._windows(one) for one in pcm]
            windows = [window for some in each for window in some]
            owners = np.repeat(np.arange(len(pcm)), [len(some) for some in each])
            told = np.zeros((len(windows), WIDTH), np.float32)
            for length in {len(window) for window in windows}:  # those of one length in one pass
                same = [n for n, window in enumerate(windows) if len(window) == length]
                told[same] = self.encoder(levelled(torch.stack([windows[n] for n in same]))).numpy()
        sums = np.stack([told[owners == n].sum(0) for n in range(len(pcm))]) if len(pcm) else told
        return _unit(sums)

    def apart(self, pcm: Sequence[Array]) -> Array:
        """As `embed`, about the common mean of all voices, where cosines say more: pieces of two seconds of two voices have 0.1
        instead of 0.5, of one voice 0.5 instead of 0.75."""
        return _unit(self.embed(pcm) - self.centre) if len(pcm) else self.embed(pcm)

    def __call__(self, pcm: Array) -> Array:
        """`[B, T]` to `[B, 256]`."""
        return self.embed(list(pcm))

    def _windows(self, pcm: Array) -> list[Tensor]:
        """`[T]` -> windows `[160, 41]`, or one of all frames there are, at least one."""
        frames = max(1, len(pcm) // HOP)
        padded = np.pad(np.asarray(pcm, np.float32), (REACH, max(0, WINDOW + (frames - 1) * HOP - REACH - len(pcm))))
        mels = self.mel(torch.from_numpy(padded)[None])[0, :frames]
        starts = [*range(0, frames - LENGTH, LENGTH // 2), max(0, frames - LENGTH)]
        return [mels[start : start + LENGTH] for start in starts]


def _unit(rows: Array) -> Array:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), np.float32)


def load() -> Voiceprint:
    """The embedded weights; the mean is that of the voices of our training."""
    from models.voices_network import Listener  # which needs sizes from here

    centre = voices_file.load(Listener(), "listener").centre.numpy()
    return Voiceprint(voices_file.load(Encoder(), "encoder"), centre)

"""Log mel power of pre-emphasised audio, frame by frame, as the streaming Sortformer hears it.

Frame n is a Hann window of 25 ms around sample 160 n. The published front end pads the file with zeros, takes the window
out of 512 samples of pre-emphasised signal y[t] = x[t] - 0.97 x[t-1], and keeps floor(length / 160) frames. Here a frame
is taken from just those samples that its window reaches: 160 n - 201 (for the pre-emphasis of the next) to 160 n + 199.
Where the window lies in the 512 changes only the phase of the spectrum, so it lies at the start.

The beginning is 201 zeros: they give y[0] = x[0] and silence before it. The end is zeros of y, not of x: the last sample
is not followed by a step to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

HOP, WINDOW, FFT = 160, 400, 512
REACH = WINDOW // 2  # samples that a frame needs from its middle on
BEFORE = REACH + 1  # samples that it needs before its middle
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Front:
    """What of the front end a checkpoint may choose.

    Attributes:
        bands: mel bands from 0 to 8000 Hz.
        emphasis: the coefficient of the pre-emphasis.
        precision: the type that window and filters were rounded to in training: float32, float16 or bfloat16.
    """

    bands: int = 128
    emphasis: float = 0.97
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"got mel filters in {self.precision!r}, expected one of {', '.join(PRECISIONS)}")


def mel_filters(bands: int, rate: int = 16000, fft: int = FFT) -> NDArray[np.float64]:
    """Triangles of unit area, equally wide on the scale of M. Slaney, "Auditory Toolbox", 1998: `[fft / 2 + 1, bands]`.

    That scale has 15 mel for each 1000 Hz up to there, and 27 mel for each factor of 6.4 above.
    """
    per_factor = 27 / np.log(6.4)
    top = 15 + per_factor * np.log(rate / 2 / 1000)
    mel = np.linspace(0, top, bands + 2)
    edges = np.where(mel < 15, mel * 1000 / 15, 1000 * np.exp((mel - 15) / per_factor))
    frequency = np.linspace(0, rate / 2, fft // 2 + 1)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    triangle = np.minimum((frequency - low) / (middle - low), (high - frequency) / (high - middle))
    return np.asarray(np.maximum(triangle, 0) * 2 / (high - low))


class LogMel(nn.Module):
    """Frames of log mel power. Has nothing to learn."""

    window: Tensor
    filters: Tensor

    def __init__(self, front: Front) -> None:
        super().__init__()
        self.front = front
        rounded = PRECISIONS[front.precision]
        window = torch.hann_window(WINDOW, periodic=False)
        filters = torch.from_numpy(mel_filters(front.bands).astype(np.float32))
        self.register_buffer("window", window.to(rounded).float(), persistent=False)
        self.register_buffer("filters", filters.to(rounded).float(), persistent=False)

    def cut(self, pcm: Tensor, frames: int) -> Tensor:
        """The pre-emphasised samples of the first `frames` frames, `[frames, 400]`.

        `pcm` begins 201 samples before the middle of the first; what lacks at the end is silence.
        """
        sharp = pcm[1:] - self.front.emphasis * pcm[:-1]
        lacking = (frames - 1) * HOP + WINDOW - len(sharp)
        if lacking > 0:
            sharp = nn.functional.pad(sharp, (0, lacking))
        return sharp[: (frames - 1) * HOP + WINDOW].unfold(0, WINDOW, HOP)

    def forward(self, cuts: Tensor) -> Tensor:
        """`[N, 400]` -> `[N, bands]`; frames do not know of each other."""
        spectrum = torch.view_as_real(torch.fft.rfft(cuts * self.window, n=FFT))
        return torch.log(spectrum.square().sum(-1) @ self.filters + 2**-24)

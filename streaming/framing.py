"""How any separator sees time, in five integers at the model's rate.

Window `k` (k = 0, 1, ...) hears the samples

    [k*hop - context,  k*hop + support + lookahead)        of the timeline, zeros where there is no audio,

and tells (its *support*) the samples `[k*hop, k*hop + support)`, `delay` samples late: output index `context` of the
window belongs to timeline index `k*hop - delay`. Neighbouring supports overlap by `fade = support - hop` samples, which
cross-fade. After window `k` everything before `(k+1)*hop - delay` is final.

A causal recurrent or convolutional model has `window == hop`, carries state from window to window, and states in `delay`
by how much its output trails its input. A windowed model (htdemucs) has no state, a long `context` of real past audio,
a small `hop` and a small `lookahead`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Framing:
    """Five sample counts at the model's rate; see the module's text for what each means.

    Raises:
        ValueError: when no window could ever settle a sample, naming the numbers.
    """

    window: int
    hop: int
    context: int = 0
    lookahead: int = 0
    delay: int = 0

    def __post_init__(self) -> None:
        if min(self.context, self.lookahead, self.delay) < 0:
            raise ValueError(f"negative context, lookahead or delay in {self!r}")
        if not 0 < self.hop <= self.support:
            raise ValueError(
                f"hop {self.hop} is not in 1..{self.support} "
                f"(window {self.window} - context {self.context} - lookahead {self.lookahead})"
            )

    @property
    def support(self) -> int:
        """Samples of each window that are told."""
        return self.window - self.context - self.lookahead

    @property
    def fade(self) -> int:
        """Samples over which neighbouring windows cross-fade."""
        return self.support - self.hop

    @property
    def latency(self) -> int:
        """`heard - told` is always below this many samples."""
        return self.window - self.context + self.delay

    def weights(self) -> Array:
        """Cross-fade weights of one support, `[support]`: a trapezoid whose slopes of two neighbours add up to one.

        With `fade > hop` more than two windows meet and the trapezoid becomes a triangle; `join` divides by the sum.
        """
        up = np.arange(1, self.support + 1)
        slope = np.minimum(up, up[::-1])
        return (np.minimum(slope, self.fade + 1) / (self.fade + 1)).astype(np.float32)

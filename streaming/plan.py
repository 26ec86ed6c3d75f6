"""A stream at the client's rate through a model at its own."""

from __future__ import annotations

from dataclasses import dataclass

from streaming.framing import Framing
from streaming.resample import Ratio


@dataclass(frozen=True)
class Plan:
    """A stream of `channels` at `rate` Hz through a model at `model_rate` Hz, cut as `framing` says."""

    rate: int
    channels: int
    model_rate: int
    framing: Framing

    @property
    def latency(self) -> int:
        """`heard - told` is always below this many samples at `rate`.

        With h heard, the way in has told at least `(h - half_in) * model_rate / rate` samples to the model, which has
        told all but `framing.latency - 1` of them to the way out, which keeps `half_out` of those:
        `h - told <= half_in + (framing.latency - 1 + half_out) * rate / model_rate`.
        """
        into, back = Ratio(self.rate, self.model_rate), Ratio(self.model_rate, self.rate)
        return into.half + back.length(self.framing.latency - 1 + back.half) + 1

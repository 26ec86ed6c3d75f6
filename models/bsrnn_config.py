"""Every number that builds a band-split RNN, and the two networks that ship."""

from __future__ import annotations

from dataclasses import dataclass

from models.separator import Spec
from streaming.framing import Framing


@dataclass(frozen=True)
class BandGroup:
    """`count` neighbouring bands of `width` bins; one mask value serves `fold` neighbouring bins."""

    width: int
    count: int
    fold: int = 1

    @property
    def bins(self) -> int:
        return self.width * self.count


@dataclass(frozen=True)
class Config:
    """Every number that builds the network.

    Attributes:
        name: of the model.
        rate: Hz.
        channels: 1 or 2.
        sources: names, in order.
        stft: window in samples; the hop is half of it.
        groups: (width, count, fold) from low to high frequency; together they cover stft/2 + 1 bins or a few more.
        features: D, numbers per band.
        hidden: H, units of the recurrence that bands share.
        narrow: numbers that each band gives to and takes from the full-band layer.
        bottleneck: G, units of the full-band recurrence.
        blocks: how many.
        additive: the stems sum to the mixture (what is missing is spread equally).
        interchangeable: outputs are speakers without identity.
        licence: of the weights.
    """

    name: str
    rate: int
    channels: int
    sources: tuple[str, ...]
    stft: int
    groups: tuple[tuple[int, int, int], ...]
    features: int = 48
    hidden: int = 80
    narrow: int = 16
    bottleneck: int = 160
    blocks: int = 3
    additive: bool = False
    interchangeable: bool = False
    licence: str = "CC-BY-4.0"

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))
        object.__setattr__(self, "groups", tuple(tuple(int(n) for n in group) for group in self.groups))
        if self.stft % 2 or self.channels not in (1, 2):
            raise ValueError(f"got a window of {self.stft} samples, {self.channels} channels; expected even, 1 or 2")
        if any(width % fold for width, _, fold in self.groups):
            raise ValueError(f"in groups {self.groups} the width is not always a multiple of the fold")
        if not 0 <= self.covered - self.bins < max(width for width, _, _ in self.groups):
            raise ValueError(f"groups {self.groups} cover {self.covered} bins, expected {self.bins} or a few more")

    @property
    def hop(self) -> int:
        return self.stft // 2

    @property
    def bins(self) -> int:
        return self.stft // 2 + 1

    @property
    def covered(self) -> int:
        return sum(group.bins for group in self.bands)

    @property
    def bands(self) -> tuple[BandGroup, ...]:
        return tuple(BandGroup(*group) for group in self.groups)

    @property
    def count(self) -> int:
        """K, the number of bands."""
        return sum(group.count for group in self.bands)

    def spec(self) -> Spec:
        """What a server is told of it.

        Rebuilt from 16 s of a meeting, outputs are 20 to 56 dB from those that never stopped (from 8 s: 13 to 52); from 9 s
        of four pieces of music, 34 to 39 dB (from 3 s: 25 to 34; from 12 s: 39 to 49).
        """
        return Spec(
            name=self.name,
            rate=self.rate,
            channels=self.channels,
            sources=self.sources,
            framing=Framing(window=self.hop, hop=self.hop, delay=self.stft - self.hop),
            interchangeable=self.interchangeable,
            licence=self.licence,
            memory=(16 if self.interchangeable else 9) * self.rate,
        )


SPEECH = Config(
    name="speech",
    rate=16000,
    channels=1,
    sources=("speaker_1", "speaker_2"),
    stft=512,
    groups=((4, 8, 1), (8, 8, 1), (21, 8, 1)),
    interchangeable=True,
    blocks=4,
)

MUSIC = Config(
    name="music",
    rate=44100,
    channels=2,
    sources=("vocals", "drums", "bass", "other"),
    stft=2048,
    groups=((2, 8, 1), (4, 8, 1), (12, 6, 1), (32, 6, 2), (120, 6, 4)),
    additive=True,
)

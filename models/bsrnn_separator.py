"""`BandSplitRNN` as a `Separator`: hop by hop with carried state, many sessions a run."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from models.bsrnn import BandSplitRNN, Carried
from models.bsrnn_file import network_from
from models.fingerprint import identified
from streaming.framing import Array


class _Hop(nn.Module):
    """One hop, with nothing but tensors in and out."""

    def __init__(self, network: BandSplitRNN) -> None:
        super().__init__()
        self.network = network

    def forward(self, pcm: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        stems, after = self.network.step(pcm, state)  # type: ignore[arg-type]
        return stems, *after


class BandSplitSeparator:
    """A row's state is the tuple that `BandSplitRNN.start` describes, without B.

    A hop is 250 small operators, of which Python's share is half of the time and, worse, all of the lock: with 20 sessions
    the event loop waited for it. So a single hop runs traced: the same operators, called from C++. Measured: 0.83 to
    0.45 ms a hop of `speech`, 1.29 to 0.75 of `music`, and the same bits.
    """

    def __init__(self, network: BandSplitRNN) -> None:
        self.network = network.eval().requires_grad_(False)
        self.spec = identified(network.config.spec(), network.state_dict().items())
        self._hop = self._traced()

    def start(self) -> Carried:
        first, second, third, fourth = (part[0] for part in self.network.start(1))
        return first, second, third, fourth

    def run(self, pcm: Array, states: Sequence[Carried]) -> tuple[Array, list[Carried]]:
        """Separate `[B, C, hop*k]`; see `Separator.run`.

        Raises:
            ValueError: a shape that is not B rows of C channels and whole hops (the caller's mistake).
        """
        c = self.network.config
        if pcm.ndim != 3 or pcm.shape[:2] != (len(states), c.channels) or pcm.shape[2] % c.hop or not pcm.shape[2]:
            raise ValueError(f"got pcm {pcm.shape}, expected [{len(states)}, {c.channels}, multiple of {c.hop}]")
        with torch.inference_mode():
            carried = [torch.stack(part) for part in zip(*states, strict=True)]
            rows = torch.tensor(np.ascontiguousarray(pcm), device=self.network.window.device)
            stems, *after = (self._hop if pcm.shape[2] == c.hop else _Hop(self.network))(rows, *carried)
            # Rows of one tensor: it lives until the last of them has been replaced, which is a hop later.
            following: list[Any] = list(zip(*(part.unbind(0) for part in after), strict=True))
            return np.ascontiguousarray(stems.cpu().numpy()), following

    def _traced(self) -> torch.jit.ScriptModule:
        """Compiled and warm: the first two calls of a traced module take 20 ms each."""
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # `torch.jit` is said to be on its way out, and has no successor without a compiler
            examples = [(self._rows(batch), *self.network.start(batch)) for batch in (2, 1, 3, 2)]
            traced: Any = torch.jit.freeze(torch.jit.trace(_Hop(self.network), examples[0], check_trace=False).eval())
            for example in examples:
                traced(*example)
        return traced

    def _rows(self, batch: int) -> Tensor:
        c = self.network.config
        return self.network.window.new_zeros(batch, c.channels, c.hop)


def load(folder: Path) -> BandSplitSeparator:
    """The separator in `folder/model.safetensors`.

    Raises:
        FileNotFoundError: no such file, naming the path.
        ValueError: a file of another format or with tensors that do not fit.
    """
    path = Path(folder) / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint; expected a folder with model.safetensors in it")
    return BandSplitSeparator(network_from(path))

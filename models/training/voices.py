"""What a published speaker encoder hears in the training voices, once: the teacher of the diarizer.

Two hundred speakers are too few to learn what tells voices apart. Resemblyzer's encoder (PyPI `resemblyzer`, Apache-2.0, weights
in the package; L. Wan et al., "Generalized end-to-end loss for speaker verification", 2018, arXiv:1710.10467) has heard
thousands. While the diarizer trains, its frames with one voice are also asked for that voice's embedding by a linear map
that is thrown away afterwards.

`python -m models.training.voices [--data DIR] [--cache DIR]` writes `cache/voices.npz`: for each speaker and each speed of
`meetings.SPEEDS` one embedding of 256 numbers, the mean over windows of 1.6 s.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.training.conversations import Speakers
from models.training.data import floats, speech_bank
from models.training.meetings import SPEEDS, speaking
from models.training.mixing import resampled, rms

WIDTH = 256
WINDOW, STEP = 160, 80  # frames of 10 ms


class Encoder(nn.Module):
    """Three LSTM layers over 40 mel bands; the last state, projected, clipped below and normalised: `[N, T, 40] -> [N, 256]`."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, WIDTH, 3, batch_first=True)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, mels: Tensor) -> Tensor:
        _, (hidden, _) = self.lstm(mels)
        return nn.functional.normalize(self.linear(hidden[-1]).relu(), dim=1)


def encoder() -> Encoder:
    """The published weights.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    found = importlib.util.find_spec("resemblyzer")  # its own import asks for packages that only record microphones
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            "got no package resemblyzer, expected it beside torch: pip install --no-deps resemblyzer"
        )
    path = Path(found.submodule_search_locations[0]) / "pretrained.pt"
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    network = Encoder().eval()
    network.load_state_dict({key: state[key] for key in network.state_dict()})
    return network


def mel_bands(bands: int = 40, size: int = 400, rate: int = 16000) -> Tensor:
    """Slaney's mel filters with unit area, `[size/2 + 1, bands]`: linear below 1 kHz, logarithmic above."""

    def hertz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((mel - 15) * np.log(6.4) / 27))

    top = 15 + np.log(rate / 2 / 1000) / (np.log(6.4) / 27)
    edges = hertz(np.linspace(0, top, bands + 2))
    bins = np.arange(size // 2 + 1)[:, None] * rate / size
    rise, fall = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return torch.from_numpy(np.maximum(0, np.minimum(rise, fall)) * 2 / (edges[2:] - edges[:-2])).float()


def mels(pcm: NDArray[np.float32]) -> Tensor:
    """Mel power of one voice brought to -30 dB, as the encoder was trained: `[T] -> [frames, 40]`."""
    wave = torch.from_numpy(pcm / max(1e-4, rms(pcm)) * 10**-1.5)
    spectrum = torch.stft(wave, 400, 160, window=torch.hann_window(400), return_complex=True, pad_mode="constant")
    power: Tensor = spectrum.abs().square().T @ mel_bands()
    return power


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.voices", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    chosen = parser.parse_args(words)
    bank, network = speech_bank(chosen.data, chosen.cache), encoder()
    speakers = Speakers(bank, bank.train)
    table = np.zeros((len(speakers.names), len(SPEEDS), WIDTH), np.float32)
    for number, group in enumerate(speakers.groups):
        heard = []
        for clip in group[:6]:
            pcm = floats(bank.pcm[clip.start : clip.start + min(clip.length, 15 * 16000)])
            heard.append(pcm[: len(pcm) // 160 * 160].reshape(-1, 160)[speaking(pcm)].ravel())
        voice = np.concatenate(heard)
        for index, speed in enumerate(SPEEDS):
            length = int((len(voice) - 4) / speed)
            frames = mels(resampled(voice, speed, length))
            starts = range(0, max(1, len(frames) - WINDOW + 1), STEP)
            frames = nn.functional.pad(frames, (0, 0, 0, max(0, WINDOW - len(frames))))
            with torch.no_grad():
                told = network(torch.stack([frames[start : start + WINDOW] for start in starts]))
            mean = told.mean(0)
            table[number, index] = (mean / mean.norm()).numpy()
    np.savez(chosen.cache / "voices.npz", names=np.array(speakers.names), table=table)
    flat = table.reshape(-1, WIDTH)
    print(
        f"{len(speakers.names)} speakers at {len(SPEEDS)} speeds; mean cosine between them {float((flat @ flat.T).mean()):.2f}"
    )


if __name__ == "__main__":
    main()

"""What a published speaker encoder hears in the training voices, once: the teacher of the diarizer.

Two hundred speakers are too few to learn what tells voices apart. Resemblyzer's encoder (PyPI `resemblyzer`, Apache-2.0, weights
in the package; L. Wan et al., "Generalized end-to-end loss for speaker verification", 2018, arXiv:1710.10467) has heard
thousands. While the diarizer trains, its frames with one voice are also asked for that voice's embedding by a linear map
that is thrown away afterwards.

`python -m models.training.voices [--data DIR] [--cache DIR]` writes `cache/voices.npz`: for each speaker, each of the
bank's formants and each speed of `meetings.SPEEDS` one embedding of 256 numbers, the mean over windows of 1.6 s. With
`--pack FOLDER` it writes the published weights as the live diarizer ships them (`models/embedded/voiceprint`), Silero VAD's
(PyPI `silero-vad`, MIT) too.
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import silero, voiceprint, voices_file
from models.training.conversations import Speakers
from models.training.data import floats, speech_bank
from models.training.meetings import SPEEDS, speaking
from models.training.mixing import resampled, rms

WIDTH = voiceprint.WIDTH
WINDOW = 160  # frames of 10 ms
ENOUGH_S = 20.0  # of a voice


def package(name: str) -> Path:
    """The folder of an installed package, without its import: these ask for others that only record or play sound.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(f"got no package {name}, expected it beside torch: pip install --no-deps {name}")
    return Path(found.submodule_search_locations[0])


def encoder() -> voiceprint.Encoder:
    """The published weights.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    path = package("resemblyzer") / "pretrained.pt"
    state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
    network = voiceprint.Encoder().eval()
    network.load_state_dict({key: state[key] for key in network.state_dict()})
    return network


def activity() -> silero.Silero:
    """The published weights, of 16 kHz."""
    theirs = torch.jit.load(package("silero_vad") / "data" / "silero_vad.jit")._model.state_dict()
    names = {"stft_conv.weight": "stft.forward_basis_buffer"}
    for part in ("weight", "bias"):
        names[f"final_conv.{part}"] = f"decoder.decoder.2.{part}"
        names |= {f"conv{n + 1}.{part}": f"encoder.{n}.reparam_conv.{part}" for n in range(4)}
        names |= {f"lstm_cell.{part}_{side}": f"decoder.rnn.{part}_{side}" for side in ("ih", "hh")}
    network = silero.Silero().eval()
    network.load_state_dict({ours: theirs[name] for ours, name in names.items()})
    return network


def pack(folder: Path) -> None:
    """Both, as `models.voices_file` reads them."""
    notes = {"licence": "Apache-2.0", "source": "PyPI Resemblyzer 0.1.4, pretrained.pt"}
    voices_file.save(encoder(), "encoder", notes, folder, half=True)
    notes = {"licence": "MIT", "source": "PyPI silero-vad 6.2.3, silero_vad.jit, 16 kHz"}
    voices_file.save(activity(), "silero", notes, folder)


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


def spoken(pcm: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is speech of a clean recording, without its pauses."""
    pcm = pcm[: len(pcm) // 160 * 160]
    return pcm.reshape(-1, 160)[speaking(pcm)].ravel()


def embedding(network: voiceprint.Encoder, voice: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    """The mean over windows of `voice [T]` played at this speed, of unit length, `[256]`."""
    frames = mels(resampled(voice, speed, int((len(voice) - 4) / speed)))
    frames = nn.functional.pad(frames, (0, 0, 0, max(0, WINDOW - len(frames))))
    with torch.no_grad():
        mean = network(frames.unfold(0, WINDOW, WINDOW).transpose(1, 2)).mean(0)
    return np.asarray((mean / mean.norm()).numpy(), np.float32)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.voices", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--pack", type=Path, help="only write the published weights there")
    chosen = parser.parse_args(words)
    if chosen.pack:
        return pack(chosen.pack)
    bank, network = speech_bank(chosen.data, chosen.cache), encoder()
    speakers = Speakers(bank, bank.train)
    voices = (bank.pcm, *bank.shifted)
    table = np.zeros((len(speakers.names), len(voices), len(SPEEDS), WIDTH), np.float32)
    for number, group in enumerate(speakers.groups):
        for kind, recorded in enumerate(voices):
            heard = [spoken(floats(recorded[clip.start : clip.start + clip.length])) for clip in group[:6]]
            for index, speed in enumerate(SPEEDS):
                table[number, kind, index] = embedding(network, np.concatenate(heard)[: round(ENOUGH_S * 16000)], speed)
    np.savez(chosen.cache / "voices.npz", names=np.array(speakers.names), table=table)
    flat = table.reshape(-1, WIDTH)
    print(
        f"{len(flat)} voices of {len(speakers.names)} speakers; mean cosine between them {float((flat @ flat.T).mean()):.2f}"
    )


if __name__ == "__main__":
    main()

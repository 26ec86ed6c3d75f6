"""Voices that nobody has: the same recordings with a longer or a shorter vocal tract, once.

Speed moves pitch and formants together; a shift of the formants alone makes another person of each voice at each speed. The
envelope of a short spectrum is its cepstrum below 2 ms (A. V. Oppenheim and R. W. Schafer, "Homomorphic analysis of speech",
1968), which a pitch of less than 500 Hz does not reach. It is stretched along frequency, the rest stays.

`python -m models.training.formants [--data DIR] [--cache DIR]` writes `cache/speech_formants_NNN.npy` for each ratio of
`data.FORMANTS`, which `speech_bank` then finds; 115 minutes of speech take ten seconds each.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.training.data import FORMANTS, SpeechBank, floats, formant_file, speech_bank

SIZE, HOP, LIFTER = 512, 128, 32  # samples at 16 kHz


def envelope(magnitude: Tensor) -> Tensor:
    """Log envelope of magnitude spectra, both `[bins, frames]`."""
    cepstrum = torch.fft.irfft(magnitude.clamp(min=1e-6).log(), dim=0)
    cepstrum[LIFTER : len(cepstrum) - LIFTER + 1] = 0
    smooth: Tensor = torch.fft.rfft(cepstrum, dim=0).real
    return smooth


def shifted(pcm: NDArray[np.float32], ratio: float) -> NDArray[np.float32]:
    """`[T] -> [T]` with formants at `ratio` of their frequencies, pitch and times as they were."""
    window = torch.hann_window(SIZE)
    spectrum = torch.stft(torch.from_numpy(pcm), SIZE, HOP, window=window, return_complex=True)
    own = envelope(spectrum.abs())
    place = (torch.arange(len(own)) / ratio).clamp(max=len(own) - 1)
    low = place.long().clamp(max=len(own) - 2)
    part = (place - low)[:, None]
    moved = own[low] * (1 - part) + own[low + 1] * part
    changed = spectrum * (moved - own).clamp(-2.5, 2.5).exp()
    return np.asarray(torch.istft(changed, SIZE, HOP, window=window, length=len(pcm)).numpy(), np.float32)


def write(bank: SpeechBank, cache: Path) -> None:
    """The files of all `FORMANTS`."""
    for ratio in FORMANTS:
        out = np.array(bank.pcm)
        for clip in bank.train:
            span = slice(clip.start, clip.start + clip.length)
            told = shifted(floats(bank.pcm[span]), ratio)
            out[span] = (told * min(1.0, 0.99 / max(1e-6, float(np.abs(told).max()))) * 32767).astype(np.int16)
        path = formant_file(cache, ratio)
        part = path.with_suffix(".part.npy")
        np.save(part, out)
        part.replace(path)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.formants", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    chosen = parser.parse_args(words)
    bank = speech_bank(chosen.data, chosen.cache)
    write(bank, chosen.cache)
    print(f"{len(bank.train)} recordings with formants at {', '.join(f'{ratio:g}' for ratio in FORMANTS)}")


if __name__ == "__main__":
    main()

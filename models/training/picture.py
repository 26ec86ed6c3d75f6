"""A small spectrogram of what an exported model does to held-out sound: `python -m models.training.picture FOLDER`.

Writes `FOLDER/spectrogram.png`: the mixture, then each output above the source that it should be.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.bsrnn_separator import load
from models.training.data import song_excerpt, speech_bank
from models.training.evaluate import si_sdr, streamed, utterances

Audio = NDArray[np.float32]


def level(pcm: Audio, size: int) -> NDArray[np.float64]:
    """Spectrogram in dB, `[bins, frames]`, of the mean of the channels."""
    mono = pcm.mean(0)
    frames = np.lib.stride_tricks.sliding_window_view(mono, size)[:: size // 2] * np.hanning(size)
    return np.asarray(20 * np.log10(np.abs(np.fft.rfft(frames)).T + 1e-3))


def draw(path: Path, panels: list[tuple[str, Audio]], rate: int, top_hz: float) -> None:
    """One column of spectrograms on one scale of colour."""
    import matplotlib
    from PIL import Image

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = 1024 if rate > 20000 else 512
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(7, 1.1 * len(panels)), sharex=True, squeeze=False)
    loudest = max(level(pcm, size).max() for _, pcm in panels)
    for axis, (title, pcm) in zip(axes[:, 0], panels, strict=True):
        extent = (0.0, pcm.shape[1] / rate, 0.0, rate / 2000)
        picture = level(pcm, size)
        scale = {"vmin": loudest - 70, "vmax": loudest, "cmap": "magma"}
        axis.imshow(picture, origin="lower", aspect="auto", extent=extent, **scale)
        axis.set_ylim(0, top_hz / 1000)
        axis.set_ylabel("kHz", fontsize=6)
        axis.tick_params(labelsize=6)
        axis.set_title(title, fontsize=7, loc="left", pad=2)
    axes[-1, 0].set_xlabel("s", fontsize=6)
    figure.tight_layout(pad=0.4)
    whole = io.BytesIO()
    figure.savefig(whole, dpi=80)
    pyplot.close(figure)
    Image.open(whole).convert("RGB").quantize(48).save(path, optimize=True)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.picture", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    chosen = parser.parse_args(words)
    model = load(chosen.model)
    if model.spec.interchangeable:
        voices = utterances(speech_bank(chosen.data, chosen.cache), np.random.default_rng((99, 0)), 2, 6 * 16000)
        sources = {name: 0.05 * voice[None] for name, voice in zip(model.spec.sources, voices, strict=True)}
    else:
        sources = song_excerpt(chosen.data, "Caesium", 9.0, 12.0, model.spec.rate)
    target = np.stack([sources[name] for name in model.spec.sources]).astype(np.float32)
    estimate = streamed(model, target.sum(0))
    ways = [(0, 1), (1, 0)] if model.spec.interchangeable else [tuple(range(len(target)))]
    order = max(ways, key=lambda way: sum(si_sdr(estimate[o], target[s]) for s, o in enumerate(way)))
    panels = [("mixture", target.sum(0))]
    for index, name in enumerate(model.spec.sources):
        if target[index].any():
            panels += [(f"{name}, separated", estimate[order[index]]), (f"{name}, true", target[index])]
    draw(chosen.model / "spectrogram.png", panels, model.spec.rate, 8000)


if __name__ == "__main__":
    main()

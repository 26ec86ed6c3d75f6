"""A small picture of what an exported model does to held-out sound: `python -m models.training.picture FOLDER`.

Writes `FOLDER/spectrogram.png`. Of a separator: the mixture, then each output above the source that it should be. Of a
diarizer: a meeting, then who spoke and who it says did, black where it is sure.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models import registry
from models.training.data import song_excerpt, speech_bank
from models.training.evaluate import si_sdr, streamed, utterances

Audio = NDArray[np.float32]


def level(pcm: Audio, size: int) -> NDArray[np.float64]:
    """Spectrogram in dB, `[bins, frames]`, of the mean of the channels."""
    mono = pcm.mean(0)
    frames = np.lib.stride_tricks.sliding_window_view(mono, size)[:: size // 2] * np.hanning(size)
    return np.asarray(20 * np.log10(np.abs(np.fft.rfft(frames)).T + 1e-3))


def draw(path: Path, panels: list[tuple[str, Audio]], rate: int, top_hz: float) -> None:
    """One column of panels: sound `[C, T]` as spectrograms on one scale of colour, shares `[T, P]` (P < T) as rows."""
    import matplotlib
    from PIL import Image

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = 1024 if rate > 20000 else 512
    figure, axes = pyplot.subplots(len(panels), 1, figsize=(7, 1.1 * len(panels)), sharex=True, squeeze=False)
    sounds = [pcm for _, pcm in panels if pcm.shape[0] < pcm.shape[1]]
    loudest, seconds = max(level(pcm, size).max() for pcm in sounds), sounds[0].shape[1] / rate
    for axis, (title, pcm) in zip(axes[:, 0], panels, strict=True):
        axis.tick_params(labelsize=6)
        if pcm.shape[0] < pcm.shape[1]:
            scale = {"vmin": loudest - 70, "vmax": loudest, "cmap": "magma", "origin": "lower"}
            axis.imshow(level(pcm, size), aspect="auto", extent=(0.0, seconds, 0.0, rate / 2000), **scale)
            axis.set_ylim(0, top_hz / 1000)
            axis.set_ylabel("kHz", fontsize=6)
        else:
            scale = {"vmin": 0.0, "vmax": 1.0, "cmap": "Greys", "interpolation": "nearest"}
            axis.imshow(pcm.T, aspect="auto", extent=(0.0, seconds, pcm.shape[1] + 0.5, 0.5), **scale)
            axis.set_yticks(range(1, pcm.shape[1] + 1))
            axis.set_ylabel("person", fontsize=6)
        axis.set_title(title, fontsize=7, loc="left", pad=2)
    axes[-1, 0].set_xlabel("s", fontsize=6)
    figure.tight_layout(pad=0.4)
    whole = io.BytesIO()
    figure.savefig(whole, dpi=80)
    pyplot.close(figure)
    Image.open(whole).convert("RGB").quantize(48).save(path, optimize=True)


def separated(folder: Path, data: Path, cache: Path, path: Path) -> None:
    """Two held-out voices, or twelve seconds of a held-out song, before and after."""
    model = registry.from_path(folder.name, folder).load(None)
    if model.spec.interchangeable:
        voices = utterances(speech_bank(data, cache), np.random.default_rng((99, 0)), 2, 6 * 16000)
        sources = {name: 0.05 * voice[None] for name, voice in zip(model.spec.sources, voices, strict=True)}
    else:
        sources = song_excerpt(data, "Caesium", 9.0, 12.0, model.spec.rate)
    target = np.stack([sources[name] for name in model.spec.sources]).astype(np.float32)
    estimate = streamed(model, target.sum(0))
    ways = [(0, 1), (1, 0)] if model.spec.interchangeable else [tuple(range(len(target)))]
    order = max(ways, key=lambda way: sum(si_sdr(estimate[o], target[s]) for s, o in enumerate(way)))
    panels = [("mixture", target.sum(0))]
    for index, name in enumerate(model.spec.sources):
        if target[index].any():
            panels += [(f"{name}, separated", estimate[order[index]]), (f"{name}, true", target[index])]
    draw(path, panels, model.spec.rate, 8000)


def diarized(folder: Path, data: Path, cache: Path, path: Path) -> None:
    """Half a minute of a simulated meeting of three held-out people at 1.04 s."""
    from models.sortformer import load as load_diarizer
    from models.training.evaluate_diarize import whole
    from models.training.meetings import MeetingMixer

    bank = speech_bank(data, cache)
    meeting = MeetingMixer(bank, bank.validation, speeds=(1.0,)).one(np.random.default_rng((71, 1)), 30, 3)
    told = whole(load_diarizer(folder), [meeting.pcm], "1.04s")[0][: len(meeting.active)]
    active = np.pad(meeting.active.astype(np.float32), ((0, 0), (0, told.shape[1] - meeting.active.shape[1])))
    draw(path, [("a meeting", meeting.pcm[None]), ("who spoke", active), ("who it says spoke", told)], 16000, 8000)


def picture(folder: Path, data: Path, cache: Path, out: Path | None = None) -> Path:
    """Write `spectrogram.png` to `out`, by default into the model's own folder; its path.

    Raises:
        ValueError: there is no model in the folder.
    """
    path = (out or folder) / "spectrogram.png"
    (diarized if (folder / "config.json").is_file() else separated)(folder, data, cache, path)
    return path


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.picture", description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    chosen = parser.parse_args(words)
    print(picture(chosen.model, chosen.data, chosen.cache))


if __name__ == "__main__":
    main()

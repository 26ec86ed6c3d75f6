"""Figures of an exported model on speakers and songs that it was not trained on, heard as a stream hears them.

`python -m models.training.evaluate models/embedded/music` prints a table and, with `--json FILE`, writes it. The model is
loaded from its exported files as the server loads it; sound goes through the server's own cutting and joining.

What is measured stands in `evaluate_music`, `evaluate_speech` and `evaluate_diarize`. Of every separator this file tells
parameters, size on disk, the memory of a session, the cost on one thread and, of a stateful one, how far hop by hop is from
the whole file at once.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models import registry
from models.bsrnn_separator import BandSplitSeparator
from models.htdemucs import DemucsSeparator
from models.separator import Separator
from models.training.data import SpeechBank, floats
from models.training.mixing import rms
from streaming import cut, join
from streaming.choose import unhurried
from streaming.framing import Framing

Audio = NDArray[np.float32]
Figures = list[dict[str, Any]]


def si_sdr(estimate: Audio, target: Audio) -> float:
    """Scale-invariant signal-to-distortion ratio of whole arrays, dB."""
    wanted = float((estimate * target).sum()) / (float(np.square(target).sum()) + 1e-12) * target
    return float(10 * np.log10((np.square(wanted).sum() + 1e-12) / (np.square(estimate - wanted).sum() + 1e-12)))


def sdr(estimate: Audio, target: Audio) -> float:
    """Signal-to-distortion ratio of whole arrays, channels and samples together, dB.

    That of the Music Demixing Challenge 2021 (Y. Mitsufuji et al., Frontiers in Signal Processing 2022,
    arXiv:2108.13559): the level counts too.
    """
    error = float(np.square(target - estimate).sum())
    return float(10 * np.log10((float(np.square(target).sum()) + 1e-12) / (error + 1e-12)))


def live(model: Separator) -> Framing:
    """How a recording is fed: windows of a windowed model as in a live session, of a stateful one a second at a time."""
    return model.spec.framing if model.spec.windows else unhurried(model.spec.framing, (), model.spec.rate)


def streamed(model: Separator, pcm: Audio, framing: Framing | None = None) -> Audio:
    """`[C, T]` through the separator as the server would, second by second: stems `[S, C, T]`, sample beside sample."""
    framing, rate = framing or live(model), model.spec.rate
    heard, state, told, stems = cut.start(len(pcm)), model.start(), join.start(framing), []
    pieces = [pcm[:, at : at + rate].astype(np.float32) for at in range(0, pcm.shape[1], rate)]
    for number in range(len(pieces) + 1):
        if number < len(pieces):
            heard, windows = cut.push(framing, heard, pieces[number])
        else:
            windows = cut.finish(framing, heard)
        for window in windows:
            out, (state,) = model.run(window.pcm[None], [state])
            told, chunk = join.accept(framing, told, window, out[0])
            stems.append(chunk.stems)
    return np.concatenate(stems, axis=-1)


def utterances(bank: SpeechBank, rng: np.random.Generator, count: int, length: int) -> list[Audio]:
    """`count` held-out speakers, `[length]` each at unit RMS."""
    chosen = rng.choice(len(bank.validation), count, replace=False)
    out = []
    for index in chosen:
        clip = bank.validation[int(index)]
        start = clip.start + int(rng.integers(max(1, clip.length - length)))
        pcm = floats(bank.pcm[start : start + min(length, clip.length)])
        out.append(np.pad(pcm, (0, length - len(pcm))) / max(1e-3, rms(pcm)))
    return out


def speed(model: Separator, seconds: float = 20) -> dict[str, Any]:
    """Real-time factors on one thread, run by run with one stream: processor time, and the median run by the clock."""
    torch.set_num_threads(1)
    framing, rate = model.spec.framing, model.spec.rate
    pcm = np.random.default_rng(0).normal(0, 0.1, (1, model.spec.channels, framing.window)).astype(np.float32)
    states, took, count = [model.start()], [], max(3, int(seconds * rate / framing.hop))
    used = time.thread_time()
    for _ in range(count):
        began = time.perf_counter()
        _, states = model.run(pcm, states)
        took.append((time.perf_counter() - began) * rate / framing.hop)
    used = (time.thread_time() - used) * rate / framing.hop / count
    return {"threads": 1, "rtf_processor_time": used, "rtf_median_run": float(np.median(took))}


def state_bytes(model: Separator) -> int:
    """What one session keeps between two runs: the model's state, and of a windowed one its audio and cross-fade."""
    spec, framing = model.spec, model.spec.framing
    carried = sum(part.nbytes for part in model.start() or ())
    fading = framing.fade * (len(spec.sources) * spec.channels + 1)
    return int(carried + (4 * (framing.window * spec.channels + fading) if spec.windows else 0))


def apart(model: BandSplitSeparator, seconds: float = 5) -> float:
    """Largest difference between hop by hop through `run` and one `forward` over the whole, noise of full scale in."""
    framing, length = model.spec.framing, int(seconds * model.spec.rate)
    pcm = np.random.default_rng(5).uniform(-1, 1, (model.spec.channels, length)).astype(np.float32)
    with torch.inference_mode():
        whole = model.network(torch.from_numpy(pcm[None]))[0].numpy()
    return float(np.abs(streamed(model, pcm, framing) - whole).max())


def facts(model: Separator, folder: Path) -> dict[str, Any]:
    """Parameters, bytes of the checkpoint and of a session's state; of a stateful model, how far a stream is from the whole."""
    networks = [model.network] if isinstance(model, BandSplitSeparator) else getattr(model, "models", [])
    files = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".th")]
    found: dict[str, Any] = {
        "parameters": sum(p.numel() for network in networks for p in network.parameters()),
        "checkpoint_bytes": sum(path.stat().st_size for path in files),
        "state_bytes": state_bytes(model),
        "latency_samples": model.spec.framing.latency,
    }
    if isinstance(model, BandSplitSeparator):
        found["stream_minus_whole"] = f"{apart(model):.1e}"
    return found


def evaluate(folder: Path, data: Path, cache: Path) -> dict[str, Any]:
    """All figures of the model in a folder: `figures` (a row each), and of separators `speed` and `facts`.

    Raises:
        ValueError: a folder with no model in it.
    """
    if (folder / "config.json").is_file():
        from models.training.evaluate_diarize import diarize_figures

        return {"figures": diarize_figures(folder, data, cache)}
    model = registry.from_path(folder.name, folder).load(None)
    if model.spec.interchangeable:
        from models.training.evaluate_speech import speech_figures

        assert isinstance(model, BandSplitSeparator)
        rows = speech_figures(model, data, cache)
    else:
        from models.training.evaluate_music import music_figures

        assert isinstance(model, BandSplitSeparator | DemucsSeparator)
        rows = music_figures(model, data, cache)
    return {"figures": rows, "speed": speed(model), "facts": facts(model, folder)}


def line(row: dict[str, Any]) -> str:
    """One row of the table."""
    return "  ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items())


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.evaluate", description=__doc__)
    parser.add_argument("model", type=Path, help="folder of an exported model")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(words)
    torch.set_num_threads(1)
    try:
        found = evaluate(chosen.model, chosen.data, chosen.cache)
    except (ValueError, FileNotFoundError) as error:
        raise SystemExit(f"error: {error}") from error
    for row in [*found["figures"], *(found[key] for key in ("speed", "facts") if key in found)]:
        print(line(row))
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Figures of an exported model on speakers and songs that it was not trained on, heard as a stream hears them.

`python -m models.training.evaluate models/embedded/music` prints a table and, with `--json FILE`, writes it. The model is
loaded from its exported file and run through `run` with carried state, in pieces of one second.

Music: each held-out song, put together from its stems; only seconds in which at least two stems sound count (where one
sounds alone, the mixture is already right). Speech: pairs of held-out speakers at unequal levels, fully and half
overlapping, and lone speakers; pitches are alike within 0.4 octaves. All in SI-SDR, dB.
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

from models.bsrnn_separator import BandSplitSeparator, load
from models.training.data import STEMS, SpeechBank, floats, music_bank, speech_bank
from models.training.mixing import decibels, rms, typical_pitch

Audio = NDArray[np.float32]
Figures = list[dict[str, Any]]


def si_sdr(estimate: Audio, target: Audio) -> float:
    """Scale-invariant signal-to-distortion ratio of whole arrays, dB."""
    wanted = float((estimate * target).sum()) / (float(np.square(target).sum()) + 1e-12) * target
    return float(10 * np.log10((np.square(wanted).sum() + 1e-12) / (np.square(estimate - wanted).sum() + 1e-12)))


def streamed(model: BandSplitSeparator, pcm: Audio) -> Audio:
    """`[C, T]` through the separator piece by piece, the delay taken off: stems `[S, C, T]`."""
    hop, delay, length = model.spec.framing.hop, model.spec.framing.delay, pcm.shape[1]
    piece = hop * max(1, model.spec.rate // hop)
    padded = np.pad(pcm, ((0, 0), (0, delay + -(length + delay) % piece))).astype(np.float32)
    states, stems = [model.start()], []
    for start in range(0, padded.shape[1], piece):
        out, states = model.run(padded[None, :, start : start + piece], states)
        stems.append(out[0])
    return np.concatenate(stems, axis=-1)[..., delay : delay + length]


def song_figures(model: BandSplitSeparator, data: Path, cache: Path) -> Figures:
    """A row for each stem of each held-out song."""
    _, held = music_bank(data, cache)
    rows: Figures = []
    for song in sorted({track.song for track in held}):
        found = {t.stem: floats(t.pcm, t.gain) for t in held if t.song == song}
        length = max(pcm.shape[1] for pcm in found.values())
        target = np.stack([found.get(stem, np.zeros((2, length), np.float32)) for stem in STEMS])
        mixture = target.sum(0)
        scale = np.float32(0.5 / max(1e-3, float(np.abs(mixture).max())))
        target, mixture = target * scale, mixture * scale
        order = [model.spec.sources.index(stem) for stem in STEMS]
        estimate = streamed(model, mixture)[order]
        keep = busy_seconds(target, model.spec.rate)
        for row, stem in enumerate(STEMS):
            if stem in found and np.square(target[row][:, keep]).mean() > 1e-8:
                before = si_sdr(mixture[:, keep], target[row][:, keep])
                after = si_sdr(estimate[row][:, keep], target[row][:, keep])
                rows.append({"song": song, "stem": stem, "seconds": round(keep.sum() / model.spec.rate)}
                            | {"mixture": before, "estimate": after, "gain": after - before})  # fmt: skip
    return rows


def busy_seconds(stems: Audio, rate: int) -> NDArray[np.bool_]:
    """`[T]`: samples in seconds in which at least two stems are above -60 dB of full scale."""
    whole = stems.shape[-1] // rate
    levels = np.square(stems[..., : whole * rate].reshape(len(stems), 2, whole, rate)).mean((1, 3))
    busy = np.repeat((levels > 1e-6).sum(0) > 1, rate)
    return np.asarray(np.pad(busy, (0, stems.shape[-1] - len(busy))))


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


def speech_figures(model: BandSplitSeparator, data: Path, cache: Path, pairs: int = 100) -> Figures:
    """A row for each condition: fully overlapped, half overlapped, alone."""
    bank, length = speech_bank(data, cache), 8 * 16000
    rows: Figures = []
    for name, shift in (("full overlap", 0), ("half overlap", length // 3)):
        before, after, near = [], [], []
        for number in range(pairs):
            rng = np.random.default_rng((99, number))
            one, two = utterances(bank, rng, 2, length - shift)
            target = np.stack([np.pad(one, (0, shift)), np.pad(two * decibels(rng.uniform(-5, 5)), (shift, 0))])
            target = (target * 0.05)[:, None].astype(np.float32)
            estimate, mixture = streamed(model, target.sum(0)), target.sum(0)
            ways = [[si_sdr(estimate[o], target[s]) for s, o in enumerate(order)] for order in ((0, 1), (1, 0))]
            after += max(ways, key=sum)
            before += [si_sdr(mixture, source) for source in target]
            apart = np.log2(typical_pitch(one, 16000) / typical_pitch(two, 16000))
            near += [bool(abs(apart) < 0.4)] * 2
        gain, like = np.subtract(after, before), np.array(near)
        rows.append({"condition": name, "pairs": pairs, "mixture": float(np.mean(before))}
                    | {"estimate": float(np.mean(after)), "gain": float(gain.mean())}
                    | {"median_gain": float(np.median(gain)), "worse_than_mixture": float((gain < 0).mean())}
                    | {"like_pitch": float(like.mean()), "like_pitch_gain": float(gain[like].mean())}
                    | {"unlike_pitch_gain": float(gain[~like].mean())})  # fmt: skip
    kept, leak = [], []
    for number in range(len(bank.validation)):
        (voice,) = utterances(bank, np.random.default_rng((98, number)), 1, length)
        mixture = (voice * 0.05)[None].astype(np.float32)
        estimate = streamed(model, mixture)
        loud, quiet = sorted(estimate, key=rms, reverse=True)
        kept.append(si_sdr(loud, mixture))
        leak.append(20 * np.log10(rms(quiet) / rms(mixture)))
    rows.append({"condition": "lone speaker", "speakers": len(kept), "kept_si_sdr": float(np.mean(kept))}
                | {"other_output_db": float(np.mean(leak))})  # fmt: skip
    return rows


def speed(model: BandSplitSeparator, seconds: float = 20) -> dict[str, Any]:
    """Real-time factors on one thread, hop by hop with one stream: processor time, and the median hop by the clock."""
    torch.set_num_threads(1)
    hop, rate = model.spec.framing.hop, model.spec.rate
    pcm = np.random.default_rng(0).normal(0, 0.1, (1, model.spec.channels, hop)).astype(np.float32)
    states, took, count = [model.start()], [], int(seconds * rate / hop)
    used = time.thread_time()
    for _ in range(count):
        began = time.perf_counter()
        _, states = model.run(pcm, states)
        took.append((time.perf_counter() - began) * rate / hop)
    used = (time.thread_time() - used) * rate / hop / count
    return {"threads": 1, "rtf_processor_time": used, "rtf_median_hop": float(np.median(took))}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.evaluate", description=__doc__)
    parser.add_argument("model", type=Path, help="folder with model.safetensors")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(words)
    torch.set_num_threads(1)
    model = load(chosen.model)
    measure = speech_figures if model.spec.interchangeable else song_figures
    figures, pace = measure(model, chosen.data, chosen.cache), speed(model)
    for row in [*figures, pace]:
        print("  ".join(f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    if chosen.json:
        chosen.json.write_text(json.dumps({"figures": figures, "speed": pace}, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""`python -m models.training speech|music`: data, mixtures, network, loop, checkpoint, in one resumable command."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from models.bsrnn import MUSIC, SPEECH, Config
from models.training.data import music_bank, speech_bank
from models.training.loop import Mixer, Plan, Run, train
from models.training.mixing import MusicMixer, SpeechMixer


def options(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.training", description=__doc__)
    parser.add_argument("model", choices=("speech", "music"))
    parser.add_argument("--minutes", type=float, default=60, help="of training, over all resumptions")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="see models/training/data.py")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="decoded audio")
    parser.add_argument("--out", type=Path, help="checkpoint and log; default runs/MODEL")
    parser.add_argument("--export", type=Path, help="folder for model.safetensors, written at every validation")
    parser.add_argument("--resume", action="store_true", help="go on from OUT/last.pt")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a segment")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--ordered", type=float, default=0, help="minutes of fixed output order, for speech")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=float, default=240, help="seconds between validations")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(words)


def mixers(model: str, data: Path, cache: Path, seconds: float) -> tuple[Mixer, Mixer]:
    """(training mixer, validation mixer)."""
    if model == "speech":
        bank = speech_bank(data, cache)
        return SpeechMixer(bank, bank.train, seconds), SpeechMixer(bank, bank.validation, seconds)
    train_tracks, validation_tracks = music_bank(data, cache)
    return MusicMixer(train_tracks, seconds), MusicMixer(validation_tracks, seconds, coherent=0.5)


def main(words: list[str] | None = None) -> None:
    chosen = options(words)
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    device = chosen.device if chosen.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    config: Config = {"speech": SPEECH, "music": MUSIC}[chosen.model]
    plan = Plan(
        minutes=chosen.minutes,
        batch=chosen.batch,
        rate=chosen.rate,
        ordered=chosen.ordered,
        every=chosen.every,
        seed=chosen.seed,
    )
    run = Run(config, plan, chosen.out or Path("runs") / chosen.model, device)
    if chosen.resume:
        run.resume()
    mixer, check = mixers(chosen.model, chosen.data, chosen.cache, chosen.seconds)
    fixed = [check.batch(np.random.default_rng((1, k)), 4) for k in range(8)]
    train(run, mixer, fixed, chosen.export)


if __name__ == "__main__":
    main()

"""`python -m models.training MODEL`: data, batches, network, loop, checkpoint, in one resumable command."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.bsrnn_config import MUSIC, SPEECH, Config
from models.training.augment_music import Augment
from models.training.conversations import ConversationMixer, Shares
from models.training.data import music_bank, speech_bank
from models.training.growth import MAY_GROW
from models.training.loop import follow, train
from models.training.mixing import Mixing, MusicMixer
from models.training.pack import expand
from models.training.run import Plan, Run
from models.training.separation import Separation
from models.training.task import Task
from models.training.together import Together, together

FULL_OVERLAP = Shares(pair=1, partial=0, three=0, room=0, noise=0, telephone=0, clipped=0)


def sized(config: Config, chosen: argparse.Namespace) -> Config:
    """The configuration in the size that was asked for."""
    asked = {key: getattr(chosen, key) for key in MAY_GROW if getattr(chosen, key)}
    return replace(config, **asked)


def speech(chosen: argparse.Namespace) -> Task:
    bank = speech_bank(chosen.data, chosen.cache)
    config = sized(SPEECH, chosen)
    mixer = ConversationMixer(bank, bank.train, chosen.seconds)
    check = ConversationMixer(bank, bank.validation, 4.0, FULL_OVERLAP)
    return Separation(config, mixer, check, chosen.ordered / chosen.minutes, chosen.checks or 12)


def music(chosen: argparse.Namespace) -> Task:
    trained, held = music_bank(chosen.data, chosen.cache)
    config = sized(MUSIC, chosen)
    check = MusicMixer(held, 4.0, mixing=Mixing(coherent=0.5))
    mixer = MusicMixer(trained, chosen.seconds, Mixing(chosen.coherent), augment=Augment() if chosen.augment else None)
    return Separation(
        config,
        mixer,
        check,
        batches=chosen.checks or 8,
        weights=chosen.weights,
        teachers=chosen.teachers,
        shares=chosen.shares,
        taught=chosen.taught,
    )


def music_hq(chosen: argparse.Namespace) -> Task:
    from models.training.music_hq import ARCHITECTURE, MusicHQ
    from models.training.teachers import Teachers

    trained, held = music_bank(chosen.data, chosen.cache)
    seconds, studio = MusicHQ.seconds(), Augment() if chosen.augment else None
    mixing = Mixing(chosen.coherent, songs=2.0, present=0.6, far=0.35, choirs=0.15, deep=0.35, bent=0.25)
    mixer = MusicMixer(trained, seconds, mixing, augment=studio)
    return MusicHQ(
        mixer,
        MusicMixer(held, seconds, mixing=Mixing(coherent=0.5)),
        chosen.checks or 8,
        teachers=Teachers(chosen.teachers, ARCHITECTURE["sources"], chosen.shares),
        taught=chosen.taught,
        spectral=chosen.spectral,
    )


def diarize(chosen: argparse.Namespace) -> Task:
    from models.training.diarize import Diarize

    voices = chosen.cache / "voices.npz"
    return Diarize(
        speech_bank(chosen.data, chosen.cache), voices if voices.is_file() else None, seconds=chosen.short or None
    )


@dataclass(frozen=True)
class Recipe:
    """How a task is made, and trained unless told otherwise."""

    make: Callable[[argparse.Namespace], Task]
    batch: int = 6
    rate: float = 2e-3
    decay: float = 0.998
    clip: float = 5.0
    beta: float = 0.99
    muon: str | None = None
    half: bool = False
    kernels: bool = False


RECIPES = {
    "speech": Recipe(speech, half=True),
    "music": Recipe(music),
    "music-hq": Recipe(music_hq, batch=4, rate=1e-3, muon="", kernels=True),
    "diarize": Recipe(diarize, batch=4, rate=5e-4, decay=0.999, clip=1.0, beta=0.98, muon=".layers.", half=True),
}


def options(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m models.training", description=__doc__)
    parser.add_argument("model", choices=tuple(RECIPES))
    parser.add_argument("--minutes", type=float, default=60, help="of training, over all resumptions")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="see models/training/data.py")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="decoded audio, or a pack (pack.py)")
    parser.add_argument("--out", type=Path, help="checkpoint and log; default runs/MODEL")
    parser.add_argument("--export", type=Path, help="folder for the averaged weights, written at every validation")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="go on from OUT/last.pt")
    start.add_argument(
        "--from", type=Path, dest="begin", metavar="FOLDER", help="start from the weights of a run or an export"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw batches ahead; 0: in the loop")
    parser.add_argument("--processes", type=int, default=1, help="that each compute a batch of every step; CPU only")
    parser.add_argument("--batch", type=int, help="segments a step of each process")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a segment of speech or music")
    parser.add_argument("--short", type=float, default=0, help="of diarize: seconds of all sequences, to begin with")
    parser.add_argument("--rate", type=float, help="peak learning rate")
    parser.add_argument("--warmup", type=int, default=100, help="steps of linear rise of the rate")
    parser.add_argument("--ordered", type=float, default=0, help="minutes of fixed output order, for speech")
    augment = argparse.BooleanOptionalAction
    parser.add_argument("--augment", action=augment, default=True, help="of music, what a studio does to it")
    parser.add_argument(
        "--coherent", type=float, default=0.3, help="of music: share of segments from one place of one song"
    )
    parser.add_argument("--weights", type=float, nargs=4, help="of music: of each stem in the loss; alike by default")
    parser.add_argument(
        "--teachers",
        type=Path,
        nargs="+",
        default=(),
        metavar="FOLDER",
        help="of music and music-hq: models whose mean is learned too",
    )
    parser.add_argument("--shares", type=float, nargs="+", help="of each teacher in their mean; alike by default")
    parser.add_argument("--spectral", type=float, default=0.0, help="of music-hq: weight of the distance of magnitudes")
    parser.add_argument("--taught", type=float, default=0.5, help="share of the loss that the teachers have")
    for size in MAY_GROW:
        parser.add_argument(f"--{size}", type=int, help="of the band-split RNN; with --from, as many as it has or more")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, help="stop after this many in all, if the minutes last longer")
    parser.add_argument("--checks", type=int, help="batches of four in the validation set of speech or music")
    parser.add_argument("--every", type=float, default=240, help="seconds between validations")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(words)


def prepare(chosen: argparse.Namespace) -> Run:
    """The run that the options ask for, at its start or where it was left."""
    if chosen.minutes <= 0:
        raise ValueError(f"got --minutes {chosen.minutes:g}, expected more than 0")
    if chosen.warmup < 1:
        raise ValueError(f"got --warmup {chosen.warmup}, expected at least 1 step")
    recipe = RECIPES[chosen.model]
    expand(chosen.cache)
    plan = Plan(
        minutes=chosen.minutes,
        batch=chosen.batch or recipe.batch,
        rate=chosen.rate or recipe.rate,
        decay=recipe.decay,
        clip=recipe.clip,
        beta=recipe.beta,
        muon=recipe.muon,
        kernels=recipe.kernels,
        warmup=chosen.warmup,
        half=recipe.half,
        every=chosen.every,
        seed=chosen.seed,
    )
    device = chosen.device if chosen.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    run = Run(recipe.make(chosen), plan, chosen.out or Path("runs") / chosen.model, device)
    if chosen.processes > 1 and torch.device(device).type != "cpu":
        raise ValueError(f"got --processes {chosen.processes} on {device}, expected 1: one process uses all of it")
    if chosen.resume:
        run.resume()
    elif (run.folder / "last.pt").is_file():
        raise ValueError(f"{run.folder}/last.pt: there is a run already; add --resume or choose another --out")
    if chosen.begin:
        run.begin_with(chosen.begin)
    return run


def along(first: Together, chosen: argparse.Namespace) -> None:
    """What the other processes do."""
    torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    follow(prepare(chosen), first, chosen.workers)


def main(words: list[str] | None = None) -> None:
    chosen = options(words)
    torch.set_num_threads(chosen.threads)
    torch.backends.cudnn.benchmark = True
    try:
        run = prepare(chosen)
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise SystemExit(f"error: {error}") from error
    torch.set_flush_denormal(True)  # of the whole thread, so taken back for whoever called this
    try:
        # By its full name: a process that is spawned knows no `__main__` of a package.
        work = importlib.import_module("models.training.__main__").along
        with together(chosen.processes, work, chosen) as run.together:
            train(run, chosen.export, steps=chosen.steps, workers=chosen.workers)
    finally:
        torch.set_flush_denormal(False)


if __name__ == "__main__":
    main()

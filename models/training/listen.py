"""Trains `models/voices_network.py`: who of the known people speaks, from simulated meetings of the training speakers.

`python -m models.training.listen --run runs/listen [--meetings 240] [--minutes 30] [--from FOLDER]`

First the published networks hear the meetings, once (`recordings`, kept in `--heard`); then the small
network learns from random two seconds of them. The people that it is asked about are made as a stream finds them: centroids of
one to some thirty windows in which somebody spoke alone, some of them with a window of somebody else mixed in; now and then
one who speaks is unknown, so that the answer is "none of these".
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from models import voices_file
from models.training.data import speech_bank
from models.training.loop import train
from models.training.meetings import MeetingMixer
from models.training.recordings import Recording, gathered, middle, recording
from models.training.run import Plan, Run
from models.voiceprint import WIDTH
from models.voices_network import FIRST, LAST, SEGMENT, STACK, STEPS, Listener, normal

PEOPLE = 4
SHARES = (0.07, 0.33, 0.33, 0.27)  # of meetings with one to four
NEARBY = 5  # windows on either side of a segment that its people are not made of
NOTES = {"licence": "CC-BY-4.0", "source": "models/training/listen.py"}
STRANGERS = 0.4  # how often one who sounds like somebody here is asked about, too
HUSHED = 0.15
Known = tuple[NDArray[np.float32], int, float]  # centroid, windows, their mean cosine to it
NOBODY: Known = (np.zeros(WIDTH, np.float32), 0, 0.0)
binary = nn.functional.binary_cross_entropy_with_logits


class Asking(nn.Module):
    """The network in training: all its answers to one batch; some of what it hears is left out."""

    def __init__(self, network: Listener) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, logs: Tensor, speech: Tensor, views: Tensor, people: Tensor, counts: Tensor, near: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        given = normal(logs.float(), speech)
        if self.training:
            given = given * (torch.rand(len(given), 1, given.shape[2], device=given.device) > 0.1)
        sounds = self.network.hear(given)
        whose = self.network.whose(sounds.hidden, views, people, counts, near)
        return sounds.speech, sounds.pure, whose


class Listen:
    """The task; see `models.training.task.Task`."""

    name = "listen"

    def __init__(self, recordings: list[Recording], checks: list[Recording], centre: NDArray[np.float32]) -> None:
        self.recordings, self.checks, self.centre = recordings, checks, centre

    def network(self) -> nn.Module:
        network = Listener()
        network.centre.copy_(torch.from_numpy(self.centre))
        return Asking(network)

    def batch(self, rng: Generator, size: int) -> tuple[NDArray[Any], ...]:
        rows = [self.draw(rng, self.recordings) for _ in range(size)]
        return tuple(np.stack(part) for part in zip(*rows, strict=True))

    def draw(self, rng: Generator, recordings: list[Recording]) -> tuple[NDArray[Any], ...]:
        """Two seconds and up to four people: inputs, then who speaks, speech and overlap, one voice, who is known."""
        one = recordings[rng.integers(len(recordings))]
        window = int(rng.integers(1, len(one.voices) - 2))
        frames = one.segment(window)
        logs, speech, silent = hushed(rng, one.logs[frames].astype(np.float32), one.speech[frames])
        active = one.active[frames] & ~silent[:, None]
        speaking = active.reshape(STEPS, STACK, -1).mean(1)[FIRST:LAST] > 0.5
        people, counts, near = np.zeros((PEOPLE, WIDTH), np.float32), np.zeros(PEOPLE), np.zeros(PEOPLE)
        meant = np.zeros((LAST - FIRST, PEOPLE), np.float32)
        for slot, person in enumerate(rng.permutation(np.flatnonzero(rng.random(speaking.shape[1]) < 0.8))):
            people[slot], counts[slot], near[slot] = met(rng, one, window, int(person))
            meant[:, slot] = speaking[:, person] * (counts[slot] > 0)
        if not counts[-1] and rng.random() < STRANGERS:
            people[-1], counts[-1], near[-1] = self.stranger(rng, one, one.voices[window, 0])
        count = speaking.sum(1)
        given = (logs, speech, one.views(window), people, counts, near)
        sure = one.share[window].max() > 0.4 and not silent.any()
        wanted = (meant, np.stack((count > 0, count > 1), 1), one.alone[window], sure)
        return tuple(np.asarray(part, np.float32) for part in (*given, *wanted))

    def stranger(self, rng: Generator, one: Recording, voice: NDArray[np.float32]) -> Known:
        """Somebody of another meeting who sounds like this voice, of a few: they do not speak here."""
        drawn = [self.recordings[n] for n in rng.integers(len(self.recordings), size=8)]
        others = [other for other in drawn if not set(other.people) & set(one.people)]
        found = [met(rng, other, -99, int(rng.integers(other.active.shape[1]))) for other in others]
        return max(found, key=lambda known: float(known[0] @ voice), default=NOBODY)

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...], progress: float) -> Tensor:
        *given, meant, speaking, alone, spoken = batch
        speech, pure, whose = network(*given)
        known = (given[4] > 0).float()[:, None].expand_as(meant)
        who = (binary(whose, meant, reduction="none") * known).sum() / known.sum()
        one = (binary(pure, alone, reduction="none") * spoken).sum() / spoken.sum()
        return 2 * who + binary(speech, speaking) + 0.5 * one

    @torch.no_grad()
    def validate(self, network: nn.Module, device: str) -> dict[str, float]:
        """Per cent of speech of known people that is wrong, of speech and of overlap, on people never heard."""
        network.eval()
        rng = np.random.default_rng(5)
        rows = [self.draw(rng, self.checks) for _ in range(512)]
        *given, meant, speaking, alone, spoken = (
            torch.from_numpy(np.stack(part)).to(device) for part in zip(*rows, strict=True)
        )
        speech, pure, whose = network(*given)
        known = (given[4] > 0)[:, None].expand_as(meant)
        wrong = ((whose > 0) != (meant > 0.5))[known].sum() / meant.sum()
        silent = ((speech > 0) != (speaking > 0.5)).sum((0, 1)) / speaking.sum((0, 1))
        mixed = ((pure > 0) != (alone > 0.5))[spoken > 0.5].float().mean()
        network.train()
        names = ("who_error", "speech_error", "overlap_error", "pure_error")
        return {name: 100 * float(rate) for name, rate in zip(names, (wrong, *silent, mixed), strict=True)}

    def export(self, network: nn.Module, folder: Path, notes: Mapping[str, str]) -> None:
        assert isinstance(network, Asking)
        voices_file.save(network.network, "listener", NOTES, folder)

    def restore(self, network: nn.Module, folder: Path) -> None:
        """See `Restorable`; the centre stays that of the weights."""
        assert isinstance(network, Asking)
        network.network.load_state_dict(voices_file.load(Listener(), "listener", folder).state_dict())


def hushed(
    rng: Generator, logs: NDArray[np.float32], speech: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Now and then the beginning, the end or all of two seconds is the noise between words, or nothing: meetings lack that."""
    silent = np.zeros(SEGMENT, bool)
    kind, edge = rng.random(), int(rng.integers(20, SEGMENT - 20))
    if kind < HUSHED:
        silent[: edge if kind < 0.3 * HUSHED else SEGMENT] = True
        if kind > 0.7 * HUSHED:
            silent[:edge] = False
    floor = np.quantile(logs, 0.03, axis=0) - rng.uniform(0, 3) + rng.normal(0, rng.uniform(0, 1), logs.shape)
    floor = np.full_like(logs, -25) if rng.random() < 0.1 else np.maximum(floor, -25)
    faint = speech * 0 + rng.uniform(0, 0.08)
    return np.where(silent[:, None], floor, logs), np.where(silent, faint, speech), silent


def met(rng: Generator, one: Recording, window: int, person: int) -> Known:
    """A person as known from other parts of a meeting: centroid, number of windows and their mean cosine to it."""
    near = np.abs(np.arange(len(one.voices)) - window) <= NEARBY
    own = np.flatnonzero(one.alone & (one.share.argmax(1) == person) & ~near)
    if not len(own):
        return NOBODY
    count = min(len(own), int(np.ceil(rng.exponential(8))))
    first = int(rng.integers(len(own) - count + 1))
    chosen = own[first : first + count] if rng.random() < 0.5 else rng.choice(own, count, replace=False)
    windows = one.voices[chosen, 0]
    total = windows.sum(0)
    if count > 1 and rng.random() < 0.2:
        total = total + one.voices[rng.integers(len(one.voices)), 0]
    centroid = total / max(1e-6, float(np.linalg.norm(total)))
    return centroid, count, float((windows @ centroid).mean())


def many(number: int) -> int:
    """How many people are to be in a meeting."""
    return 1 + int(np.random.default_rng(number).choice(PEOPLE, p=SHARES))


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.listen", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    parser.add_argument("--heard", type=Path, default=Path("runs/heard"))
    parser.add_argument("--run", type=Path, required=True, help="folder of checkpoints and logs")
    parser.add_argument("--from", dest="origin", type=Path, help="folder of exported weights to begin with")
    parser.add_argument("--export", type=Path, help="default: RUN/export")
    parser.add_argument("--meetings", type=int, default=240)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    chosen = parser.parse_args(words)
    torch.set_num_threads(1)
    bank = speech_bank(chosen.data, chosen.cache)
    told = gathered(chosen.heard, MeetingMixer(bank, bank.train), 23, chosen.meetings, many)
    checks = gathered(chosen.heard, MeetingMixer(bank, bank.validation, speeds=(1.0,)), 7, 9, lambda n: 2 + n % 3)
    centre = middle(told)
    if chosen.origin:
        centre = voices_file.load(Listener(), "listener", chosen.origin).centre.numpy()
    task = Listen([recording(one, centre) for one in told], [recording(one, centre) for one in checks], centre)
    run = Run(task, Plan(chosen.minutes, chosen.batch, chosen.rate), chosen.run)
    if chosen.origin:
        run.begin_with(chosen.origin)
    train(run, chosen.export or chosen.run / "export")


if __name__ == "__main__":
    main()

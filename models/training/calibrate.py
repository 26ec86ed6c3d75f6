"""Where a diarizer's "somebody speaks" begins: the bias of its last layer, by error rate on the speakers it was trained on.

Training asks for probabilities; who reads them says 0.5. A model that is often unsure which of two people speaks gives each
less than that, and misses more than it invents. So all logits move by the one number with the least diarization error.
Held-out speakers have no part in it.

`python -m models.training.calibrate FOLDER [--data DIR] [--cache DIR]` moves the exported bias in place, and prints the
errors. Run it once: a second time it moves by nothing, or little.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.training.data import SpeechBank, speech_bank
from models.training.diarize import Diarize, error_rate
from models.training.evaluate_diarize import smooth
from models.training.meetings import Flags, MeetingMixer
from models.training.sortformer import Network, streamed

SHIFTS = (-0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def errors(told: Sequence[NDArray[np.float32]], meant: Sequence[Flags]) -> dict[float, float]:
    """Diarization error in percent of probabilities `[T, 4]`, were their logits this much higher."""
    found = {}
    for shift in SHIFTS:
        onset = 1 / (1 + np.exp(shift))
        rates = [error_rate(smooth(one, onset), active) for one, active in zip(told, meant, strict=True)]
        found[shift] = 100 * sum(wrong for wrong, _ in rates) / sum(spoken for _, spoken in rates)
    return found


def calibrate(
    folder: Path, task: Diarize, bank: SpeechBank, meetings: int = 12, seconds: float = 75
) -> dict[float, float]:
    """Move the bias of the export in `folder`; the errors by shift, of which the least was taken."""
    network = Network(task.size)
    task.restore(network, folder)
    mixer = MeetingMixer(bank, bank.train, speeds=(1.0,))
    held = [mixer.one(np.random.default_rng((83, k)), seconds, 2 + k % 3) for k in range(meetings)]
    told = streamed(network.eval(), np.stack([m.pcm for m in held]), "low_latency")
    found = errors(list(told), [m.active for m in held])
    shift = min(found, key=lambda one: found[one])
    notes = folder / "notes.txt"
    kept = dict(line.split(": ", 1) for line in notes.read_text().splitlines()) if notes.is_file() else {}
    with torch.no_grad():
        network.model.classifier.out_proj.bias.add_(shift)
    task.export(network, folder, {**kept, "shift": f"{float(kept.get('shift', 0)) + shift:g}"})
    return found


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m models.training.calibrate", description=__doc__)
    parser.add_argument("model", type=Path, help="folder of an exported diarizer")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    chosen = parser.parse_args(words)
    bank = speech_bank(chosen.data, chosen.cache)
    try:
        found = calibrate(chosen.model, Diarize(bank, None), bank)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    for shift, rate in found.items():
        print(f"shift {shift:+.1f}  der {rate:.2f}" + ("  taken" if rate == min(found.values()) else ""))


if __name__ == "__main__":
    main()

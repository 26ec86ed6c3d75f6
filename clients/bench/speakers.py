"""How often speakers change tracks: the swap rate of any separator, on conversations whose voices are known.

    python -m clients.bench.speakers                                  # the stitching of windows, setting by setting
    python -m clients.bench.speakers --model oracle speech --diarizer FOLDER --overlap 0 0.3 0.6 --people 2 4
    python -m clients.bench.speakers --url ws://127.0.0.1:8000 --served speech    # and what a running server gives
    python -m clients.bench.speakers --score out/speakers              # only score what lies in the tracks folders

Conversations are made first (`clients.bench.speakers_talk`): every number of people with every overlap, silences of
`--silence` seconds between turns. Then each is separated: here, window by window without memory, stitched in several ways
(`python -m models.stitched_tracks`, a process of its own, for the clients import none of the server's code), or
by a server. Last all tracks are scored (`clients.bench.speakers_score`). The three steps meet in WAV files: any other
product's tracks that are put into `tracks/<name>/` are scored beside ours.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from clients.bench import report
from clients.bench.circumstances import circumstances
from clients.bench.speakers_picture import picture
from clients.bench.speakers_score import Score, score, summary
from clients.bench.speakers_talk import RATE, Recipe, cached, conversation, numbered, read, write

SPLIT = Path(__file__).parents[2] / "models" / "training" / "split.json"
SETTINGS = ("none", "overlap", "voice", "three", "truth", "best")
COLUMNS = {
    "swapped %": "swap_rate", "torn %": "torn_rate", "swaps/min": "swaps_per_minute", "DER %": "der", "SI-SDR dB": "si_sdr_db",
    "gain dB": "gain_db", "reorders": "reorders", "margin": "margin",
}  # fmt: skip


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="clients.bench.speakers", description=__doc__, formatter_class=_Format)
    parser.add_argument("--people", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--overlap", type=float, nargs="+", default=[0.0, 0.2, 0.4, 0.6], help="share of speech time")
    parser.add_argument("--silence", type=float, nargs=2, default=(0.5, 10.0), help="s between turns, from and to")
    parser.add_argument("--seconds", type=float, default=60.0, help="of a conversation")
    parser.add_argument("--repeat", type=int, default=1, help="conversations of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", nargs="*", default=["oracle", "speech"], help="separators, each on windows")
    parser.add_argument("--window", type=float, default=2.0, help="s")
    parser.add_argument("--hop", type=float, default=1.0, help="s")
    parser.add_argument("--leak", type=float, nargs=2, default=(10.0, 20.0), help="dB, cross-talk of the oracle")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), help="ways of stitching")
    parser.add_argument("--diarizer", help="for the third cue: a folder or a name; without it only the bound is shown")
    parser.add_argument("--url", help="of a server, to score its tracks too")
    parser.add_argument("--served", nargs="*", default=["speech"], help="its models")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="decoded speech (`make train` makes it)")
    parser.add_argument("--out", type=Path, default=Path("out/speakers"), help="where the recordings go")
    parser.add_argument("--score", type=Path, metavar="FOLDER", help="only score the tracks that are there")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--plot", type=Path, help="PNG file for the timeline of one conversation")
    return parser.parse_args(argv)


class _Format(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


def make(options: argparse.Namespace) -> list[Path]:
    """Fresh conversations, a folder each, in the place of those of an earlier run."""
    speech = cached(options.cache, SPLIT)
    for old in options.out.glob("[0-9][0-9][0-9]/recipe.json"):
        shutil.rmtree(old.parent)
    kinds = [kind for kind in product(options.people, options.overlap) for _ in range(options.repeat)]
    folders = []
    for number, (people, overlap) in enumerate(kinds):
        recipe = Recipe(people, options.seconds, tuple(options.silence), overlap)
        folder = options.out / f"{number:03d}"
        write(folder, conversation(speech, recipe, np.random.default_rng((options.seed, number))))
        (folder / "recipe.json").write_text(json.dumps(asdict(recipe)))
        folders.append(folder)
    return folders


def stitch(options: argparse.Namespace, model: str) -> None:
    """One separator's windows under all settings, in a process of its own."""
    settings = [name for name in options.settings if name != "three" or options.diarizer]
    words = ["--model", model, "--name", f"{model}/", "--window", options.window, "--hop", options.hop]
    words += ["--leak", *options.leak, "--settings", *settings]
    words += ["--diarizer", options.diarizer] if options.diarizer else []
    command = [sys.executable, "-m", "models.stitched_tracks", options.out, *words]
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


def serve(url: str, model: str, folders: Sequence[Path]) -> None:
    """A server's tracks of each conversation."""
    import soundfile
    from rivulet_client import separate_array

    for folder in folders:
        pcm = read([folder / "mixture.wav"])
        stems = asyncio.run(separate_array(url, pcm, RATE, model=model))
        out = folder / "tracks" / "server" / model
        out.mkdir(parents=True, exist_ok=True)
        for number, track in enumerate(stems.values(), 1):
            soundfile.write(out / f"track_{number}.wav", np.clip(track[0], -1, 1), RATE, subtype="PCM_16")


def scores(folders: Sequence[Path]) -> dict[str, list[dict[str, Any]]]:
    """By name of the tracks' folder, a row for each conversation."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for folder in folders:
        voices = read(numbered(folder, "person"))
        for first in sorted(folder.glob("tracks/**/track_1.wav")):
            told = score(voices, read(numbered(first.parent, "track")))
            facts = first.with_name("facts.json")
            decisions = json.loads(facts.read_text()) if facts.is_file() else {}
            name = str(first.parent.relative_to(folder / "tracks"))
            found[name].append({"folder": folder, "score": told, "decisions": decisions})
    return found


def figures(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row for each name, in the order of `SETTINGS`, with a part for each kind of conversation."""
    rows = []
    for name in sorted(found, key=_place):
        results = found[name]
        row: dict[str, Any] = {"name": name, **summary([result["score"] for result in results])}
        decisions = [result["decisions"] for result in results if result["decisions"]]
        margins = [margin for one in decisions for margin in one["margins"] if margin > 0]
        row["reorders"] = sum(one["swaps"] for one in decisions) if decisions else None
        row["margin"] = float(np.median(margins)) if margins else float("nan")
        row["kinds"] = {kind: summary(of_kind) for kind, of_kind in _kinds(results).items()}
        row["conversations"] = [result["score"].figures() for result in results]
        rows.append(row)
    return rows


def _place(name: str) -> tuple[str, int, str]:
    model, _, setting = name.rpartition("/")
    return model, SETTINGS.index(setting) if setting in SETTINGS else len(SETTINGS), setting


def _kinds(results: Sequence[dict[str, Any]]) -> dict[str, list[Score]]:
    kinds: dict[str, list[Score]] = defaultdict(list)
    for result in results:
        path = result["folder"] / "recipe.json"
        recipe = json.loads(path.read_text()) if path.is_file() else {"people": len(result["score"].own), "overlap": 0}
        kinds[f"{recipe['people']} people"].append(result["score"])
        kinds[f"{100 * recipe['overlap']:.0f} % overlap"].append(result["score"])
    return dict(sorted(kinds.items(), key=lambda kind: (kind[0].endswith("overlap"), len(kind[0]), kind[0])))


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """All conversations, and then the swap rate by kind."""

    def shown(row: dict[str, Any], key: str) -> str:
        return report.cell(100.0 * row[key] if key in ("swap_rate", "torn_rate", "der") else row[key])

    kinds = list(rows[0]["kinds"])
    whole = [["", *COLUMNS]] + [[row["name"], *(shown(row, key) for key in COLUMNS.values())] for row in rows]
    parts = [["swapped %", *kinds]] + [
        [row["name"], *(shown(row["kinds"][kind], "swap_rate") for kind in kinds)] for row in rows
    ]
    lines = [report.grid(whole), "", report.grid(parts), *verdicts(rows)]
    return "\n".join(lines)


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Swap rate of three cues (the bound where there is no diarizer) against overlap correlation only."""
    rates = {row["name"]: row["swap_rate"] for row in rows}
    lines = []
    for name, rate in rates.items():
        model, _, setting = name.rpartition("/")
        if setting in ("voice", "three", "truth") and rates.get(f"{model}/overlap"):
            lines.append(f"{name}: {rate / rates[f'{model}/overlap']:.2f} of the swap rate of overlap correlation only")
    return ["", *lines] if lines else []


def _telling(rows: Sequence[dict[str, Any]]) -> int:
    """The conversation on which the ways of stitching differ most."""
    swapped = np.array([[one["swapped_s"] for one in row["conversations"]] for row in rows])
    return int(np.ptp(swapped, axis=0).argmax())


def main(argv: Sequence[str] | None = None) -> int:
    """Makes, separates, scores, prints, writes; returns the exit code."""
    options = arguments(argv)
    try:
        if options.score:
            folders = sorted(path.parent for path in options.score.glob("*/mixture.wav"))
        else:
            folders = make(options)
            for model in options.model:
                stitch(options, model)
            for model in options.served if options.url else ():
                serve(options.url, model, folders)
        rows = figures(scores(folders))
        if not rows:
            raise ValueError(f"got no tracks to score under {options.score or options.out}")
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        print(f"clients.bench.speakers: {error}", file=sys.stderr)
        return 1
    print(tables(rows))
    if options.json:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
        report.write_json(options.json, {"rows": rows, "settings": settings, **circumstances()})
    if options.plot:
        picture(options.plot, folders[_telling(rows)], [row["name"] for row in rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())

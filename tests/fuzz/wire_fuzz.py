"""Coverage-guided fuzzing of the codecs: `python tests/fuzz/wire_fuzz.py --seconds 60`, or `make fuzz SECONDS=60`.

Begins with the golden vectors and with the files in `corpus/`, which are inputs that once broke something. An input that
breaks a target is written to `--found` and its traceback printed; the exit status is then not 0. Copy it to `corpus/`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import atheris

sys.path[0] = str(Path(__file__).parents[1])  # of the tests, in which `fuzz` is a package

with atheris.instrument_imports(
    include=["fuzz.targets", "streaming", "rivulet_client", "server.gstreamer", "server.hexjson"]
):
    from fuzz import targets

HERE = Path(__file__).parent
WORDS = (
    '"type":', '"start"', '"resume"', '"mark"', '"gains"', '"end"', '"model":', '"rate":', '"channels":', '"format":',
    '"s16le"', '"f32le"', '"stems":', '"output":"mix"', '"mono":true', '"latency_ms":', '"live":false', '"token":',
    '"received":', '"id":', '"ready"', '"stats"', '"done"', '"error"', '"fatal":', "null", "NaN", "-Infinity", "1e999",
    "\\\\ud800", "[[[[[[[[", "rate=", "chunk-duration=", "overlap=", "model-name=", "channels=", "model=", "%00",
)  # fmt: skip


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="0: no limit")
    parser.add_argument("--runs", type=int, default=-1, help="executions at most; -1: no limit")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers; 0: another each time")
    parser.add_argument("--found", type=Path, default=Path("out") / "fuzz", help="where inputs that break something go")
    parser.add_argument("--corpus", type=Path, help="a folder in which interesting inputs are kept from run to run")
    return parser.parse_args()


def prepared(folder: Path) -> list[str]:
    """The folders to begin with, and the dictionary, as libFuzzer takes them."""
    golden = json.loads((HERE.parent / "golden_wire.json").read_text())
    (folder / "seeds").mkdir()
    for number, data in enumerate(targets.seeds(golden)):
        (folder / "seeds" / f"{number:03}").write_bytes(data)
    escaped = (word if word.startswith("\\\\") else word.replace('"', '\\"') for word in WORDS)
    (folder / "words").write_text("".join(f'"{word}"\n' for word in escaped))
    return [f"-dict={folder / 'words'}", str(folder / "seeds"), str(HERE / "corpus")]


def main() -> None:
    asked = arguments()
    asked.found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        kept = asked.corpus or Path(name) / "kept"
        kept.mkdir(parents=True, exist_ok=True)
        limits = [f"-max_total_time={asked.seconds}", f"-atheris_runs={asked.runs}", f"-seed={asked.seed}"]
        dictionary, *begin = prepared(Path(name))
        options = ["-max_len=8192", "-len_control=20", "-timeout=10", "-print_final_stats=1", "-verbosity=0"]
        # Not by the peak of memory: a process inherits that of whoever started it, pytest's gigabytes too.
        options += ["-rss_limit_mb=0", "-malloc_limit_mb=2048"]
        where = [f"-artifact_prefix={asked.found}/", str(kept), *begin]
        atheris.Setup([sys.argv[0], *limits, *options, dictionary, *where], targets.check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

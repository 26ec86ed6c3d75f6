"""Command-line options that the benchmarks share."""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path


class _Format(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    pass


def parser(name: str, text: str | None) -> argparse.ArgumentParser:
    """One for the benchmark of this name, with where the server is and where the figures go."""
    made = argparse.ArgumentParser(prog=f"clients.bench.{name}", description=text, formatter_class=_Format)
    made.add_argument("--url", default="ws://127.0.0.1:8000", help="of the server")
    made.add_argument("--token", help="bearer key")
    made.add_argument("--timeout", type=float, default=120.0, help="s that the server may take to be ready")
    made.add_argument("--json", type=Path, help="file for the figures")
    return made


def paced(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """And how `stems.v1` sessions are fed."""
    made.add_argument("--packet-ms", type=float, default=10.0)
    made.add_argument("--format", choices=("s16le", "f32le"), default="s16le")
    made.add_argument("--latency-ms", type=float, help="the most latency to ask the server for")
    made.add_argument("--mode", choices=("separate", "speakers"), help="what becomes of speech (default: separate)")
    made.add_argument("--diarizer", help="of mode speakers: NAME or NAME@PROFILE (default: the server's first)")
    made.add_argument("--audio", type=Path, help="a sound file to play, round and round; else a synthetic band")
    return made


def watched(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """And whose processor time and memory are looked at."""
    made.add_argument("--pid", type=int, help="of the server; found by its port if it listens on this machine")
    return made


def browsed(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """And the Chromium that opens the page, and what its microphone hears."""
    made.add_argument(
        "--audio", type=Path, help="WAV that the microphone plays, round and round; else a synthetic band"
    )
    made.add_argument("--chromium", default=os.environ.get("CHROMIUM") or shutil.which("chromium"), help="program")
    return made

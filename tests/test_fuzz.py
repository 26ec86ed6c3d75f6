"""The codecs and a server process under inputs that nobody should send. See docs/testing.md for the long runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fuzz import targets

HERE = Path(__file__).parent
CORPUS = sorted((HERE / "fuzz" / "corpus").iterdir())
GOLDEN: dict[str, Any] = json.loads((HERE / "golden_wire.json").read_text())


def run(script: str, *options: object, seconds: float) -> subprocess.CompletedProcess[str]:
    """One of the fuzzers, as a person starts it."""
    command = [sys.executable, str(HERE / "fuzz" / script), *map(str, options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds, env=environment, check=False)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_what_once_broke_something_does_so_no_more(path: Path) -> None:
    targets.check(path.read_bytes())


def test_every_target_takes_what_is_right() -> None:
    seeds = targets.seeds(GOLDEN)
    assert {seed[0] for seed in seeds} == set(range(len(targets.TARGETS)))
    for seed in seeds:
        targets.check(seed)


@pytest.mark.parametrize("number", range(len(targets.TARGETS)))
def test_every_target_takes_nothing_and_one_byte(number: int) -> None:
    targets.check(bytes([number]))
    for value in range(256):
        targets.check(bytes([number, value]))


def test_a_target_would_notice_a_codec_that_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.binary, "finite", lambda samples, _: (samples, None))
    with pytest.raises(AssertionError):
        targets.check(targets.seed(targets.client_pcm, bytes([2]) + bytes.fromhex("0000c07f")))


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not here")
def test_a_few_thousand_mutations_of_the_codecs_inputs(tmp_path: Path) -> None:
    done = run("wire_fuzz.py", "--runs", 20_000, "--seconds", 20, "--seed", 1, "--found", tmp_path, seconds=120)
    assert done.returncode == 0, done.stderr[-4000:]
    assert not list(tmp_path.iterdir())
    assert int(done.stderr.rsplit("Done ", 1)[1].split()[0]) >= 5000


@pytest.mark.parametrize("messages", [2000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_server_outlives_clients_that_say_anything(messages: int) -> None:
    done = run("socket_fuzz.py", "--messages", messages, "--seed", 1, seconds=120 + messages / 50)
    assert done.stdout, done.stderr[-4000:]
    print(done.stdout)
    account = json.loads(done.stdout.splitlines()[-1])
    assert not account["wrong"], done.stdout
    assert done.returncode == 0, done.stderr[-4000:]
    assert account["messages"] >= messages
    assert {"normal", "bad_message", "not WebSocket", "over 2 MiB"} <= set(account["ended"])  # it did reach all layers

"""The bench of the diarizer measures what it says: sessions whose memories are full, each elsewhere in its period."""

from __future__ import annotations

from pathlib import Path

import pytest
import sortformer_oracle as oracle

from models import sortformer_cost
from models.diarizer import Profile
from models.sortformer import load

QUICK = Profile(3, 1, 8, 6, 20)


def test_states_are_those_of_long_sessions(tmp_path: Path) -> None:
    diarizer = load(oracle.save(oracle.make_model(), tmp_path))
    states = sortformer_cost.full(diarizer, QUICK, 2)
    assert all(len(state.cache) == 20 and state.probs is not None for state in states)
    assert len({len(state.fifo) for state in states}) == 2
    rtf, longest = sortformer_cost.cost(diarizer, QUICK, states)
    assert rtf > 0
    assert longest > 0


def test_prints_a_row_for_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = oracle.save(oracle.make_model(), tmp_path)
    sortformer_cost.main(["--model", str(folder), "--profile", "3,1,8,6,20", "10s", "--sessions", "1", "3"])
    rows = [row for row in capsys.readouterr().out.splitlines() if row.startswith("|")][2:]
    assert [row.split("|")[1:4] for row in rows] == [
        [" 3,1,8,6,20 ", " 0.32 ", " 1 "],
        [" 3,1,8,6,20 ", " 0.32 ", " 3 "],
        [" 10s ", " 10.00 ", " 1 "],
        [" 10s ", " 10.00 ", " 3 "],
    ]

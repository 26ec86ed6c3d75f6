"""People keep their numbers over a break."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streaming import identity
from streaming.activity import Flags


def flags(frames: int, people: int, *spans: tuple[int, int, int]) -> Flags:
    out = np.zeros((frames, people), bool)
    for who, begin, end in spans:
        out[begin:end, who] = True
    return out


def test_who_spoke_at_the_same_times_is_the_same() -> None:
    before = [(0, 0, 900), (1, 1000, 1500), (0, 1550, 1900), (2, 1900, 2100)]
    heard = flags(900, 4, (0, 0, 300), (1, 350, 700), (2, 690, 880))  # from frame 1200 on: the second one comes first
    assert identity.order(before, 1200, heard) == (1, 0, 2, 3)


def test_who_was_silent_for_long_keeps_a_number_that_nobody_else_gets() -> None:
    before = identity.kept([(0, 0, 500), (1, 600, 900), (2, 4000, 4400)], since=3000)
    assert before == ((0, 0, 0), (1, 0, 0), (2, 4000, 4400))
    heard = flags(1500, 4, (0, 1000, 1400), (1, 1420, 1500))  # 2 again, and one who is new to this half minute
    assert identity.order(before, 3000, heard)[:2] == (2, 3)


def test_nobody_yet() -> None:
    assert identity.order((), 0, flags(0, 3)) == (0, 1, 2)
    assert identity.order(((0, 0, 0), (1, 0, 0)), 500, flags(10, 4)) == (2, 3, 0, 1)


def test_a_ticket_has_little_room() -> None:
    spans = [(n % 3, 10 * n, 10 * n + 8) for n in range(500)]
    kept = identity.kept(spans, 0)
    assert len(kept) == identity.MOST
    assert kept[-1] == spans[-1]


@given(
    st.permutations(range(5)),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 200), st.integers(1, 60)), min_size=1),
)
def test_any_renumbering_is_undone(order: list[int], spans: list[tuple[int, int, int]]) -> None:
    before = [(who, begin, begin + length) for who, begin, length in spans]
    renamed = [(order.index(who), begin, end) for who, begin, end in before]
    found = identity.order(before, 0, flags(300, 5, *renamed))
    speaking = flags(300, 5, *before)
    total = sum(int((flags(300, 5, *renamed)[:, new] & speaking[:, old]).sum()) for new, old in enumerate(found))
    assert total == int(speaking.sum())
    assert sorted(found) == list(range(5))

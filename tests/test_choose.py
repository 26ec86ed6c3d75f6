"""Choosing a framing, on machines whose speed is made up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming import choose as choosing
from streaming.choose import Impossible, TooSlow, choose, promised

RATE = 44_100
WINDOWS = [int(RATE * seconds) for seconds in (1, 1.5, 2, 2.5, 3, 3.9, 5, 7.8)]


def machine(rtf: float) -> Callable[[int], float]:
    return lambda window: rtf * window / RATE


@given(st.floats(0.001, 0.5), st.none() | st.floats(0.3, 20))
def test_a_chosen_framing_keeps_its_promise_and_keeps_up(rtf: float, latency: float | None) -> None:
    cost = machine(rtf)
    try:
        framing = choose(WINDOWS, RATE, cost, latency)
    except Impossible as error:
        assert latency is not None
        assert latency < error.smallest
        assert promised(choose(WINDOWS, RATE, cost, error.smallest), RATE, cost) <= error.smallest + 1e-9
        return
    assert cost(framing.window) <= choosing.UTILISATION * framing.hop / RATE + 1 / RATE
    assert framing.context >= framing.window // 4
    assert framing.window in WINDOWS
    if latency is not None:
        assert promised(framing, RATE, cost) <= latency + 1e-9


def test_more_latency_never_gives_a_shorter_window() -> None:
    windows = [choose(WINDOWS, RATE, machine(0.42), latency).window for latency in (2, 3, 4, 6, 9, 15)]
    assert windows == sorted(windows)
    assert windows[0] < windows[-1]


def test_a_fast_machine_takes_the_whole_window_and_a_slow_one_what_fits_in_four_seconds() -> None:
    fast, slow = choose(WINDOWS, RATE, machine(0.01)), choose(WINDOWS, RATE, machine(0.42))
    assert fast.window == WINDOWS[-1]
    assert promised(fast, RATE, machine(0.01)) < 1.3
    assert WINDOWS[0] < slow.window < WINDOWS[-1]
    assert promised(slow, RATE, machine(0.42)) <= choosing.TARGET


@pytest.mark.parametrize(("rtf", "share"), [(0.01, 0.01 * 7.8 / 0.5), (0.04, choosing.EASY), (0.048, choosing.EASY)])
def test_unasked_a_session_leaves_most_of_the_machine_to_others(rtf: float, share: float) -> None:
    framing, asked = (choose(WINDOWS, RATE, machine(rtf), latency) for latency in (None, 1.2))
    assert framing.window == WINDOWS[-1]
    assert machine(rtf)(framing.window) * RATE / framing.hop <= share + 1e-3 < choosing.GENTLE
    assert asked.hop <= framing.hop, "who asks for less waits for less"


def test_the_refusal_names_both_numbers() -> None:
    with pytest.raises(Impossible, match=r"got a latency of 0.500 s, the smallest possible here is 1\.\d+ s"):
        choose(WINDOWS, RATE, machine(0.42), 0.5)


def test_a_machine_that_cannot_keep_up_says_so() -> None:
    with pytest.raises(TooSlow, match=r"a window of 7.8 s takes 7.0 s here"):
        choose(WINDOWS, RATE, machine(0.9))

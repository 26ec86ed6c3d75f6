"""The choice against a search through every window and hop, on made-up machines."""

from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.choose import choose, frame, promise
from streaming.framing import Framing

RATE = 44_100
WINDOWS = (44_032, 66_560, 88_064, 110_592, 132_096, 172_032, 220_160, 343_980)


def linear(share: float, rate: int = RATE):
    """A machine on which one forward takes this share of the window's time."""
    return lambda window: share * window / rate


def test_frame_is_a_framing_of_the_whole_window():
    assert frame(1000, 300, 80, 20) == Framing(window=1000, hop=300, context=600, lookahead=80)
    assert frame(1000, 300, 80, 20).fade == 20
    assert frame(1000, 300, 80, 20).latency == 400


def test_promise_counts_everything():
    assert promise(frame(1000, 300, 80, 20), 100, lambda window: window / 1000, margin=1.5) == 400 + 150


def test_a_slow_machine_gets_a_shorter_window():
    found = choose(WINDOWS, RATE, linear(0.42))
    assert found.window == 132_096  # 3 s; the next, 3.9 s, needs 4.6 s end to end
    assert found.hop == ceil(0.42 * 132_096 / 0.8)
    assert promise(found, RATE, linear(0.42)) <= 4 * RATE
    assert promise(choose((172_032,), RATE, linear(0.42)), RATE, linear(0.42)) > 4 * RATE


def test_a_fast_machine_gets_the_whole_window_and_no_needless_work():
    found = choose(WINDOWS, RATE, linear(0.004))
    assert found == frame(343_980, 343_980 // 4, RATE // 2, RATE // 20)
    assert promise(found, RATE, linear(0.004)) < 3 * RATE


def test_an_asked_latency_is_spent():
    found = choose(WINDOWS, RATE, linear(0.004), latency=RATE)
    assert found.window == 343_980
    assert promise(found, RATE, linear(0.004)) == RATE


def test_without_a_wish_the_smallest_possible():
    cost = linear(0.75)
    found = choose((132_096, 343_980), RATE, cost, lookahead=1000, fade=100)
    assert found == frame(132_096, ceil(0.75 * 132_096 / 0.8), 1000, 100)
    assert promise(found, RATE, cost) > 4 * RATE


def test_impossible_latency_names_both():
    with pytest.raises(ValueError, match=r"got latency 22050 samples \(0\.500 s\), the smallest possible here is \d+ "):
        choose(WINDOWS, RATE, linear(0.1), latency=RATE // 2)
    smallest = min(
        promise(choose((w,), RATE, linear(0.1), latency=10**9, margin=1), RATE, linear(0.1)) for w in WINDOWS
    )


def test_the_named_smallest_is_possible_and_one_less_is_not():
    cost = linear(0.3)
    with pytest.raises(ValueError, match="smallest possible here is") as caught:
        choose(WINDOWS, RATE, cost, latency=1)
    smallest = int(str(caught.value).split("here is ")[1].split()[0])
    assert promise(choose(WINDOWS, RATE, cost, latency=smallest), RATE, cost) == smallest
    with pytest.raises(ValueError, match=f"here is {smallest} "):
        choose(WINDOWS, RATE, cost, latency=smallest - 1)


def test_a_machine_that_cannot_keep_up():
    with pytest.raises(
        ValueError, match=r"cannot keep up with any window: 343980 samples take 7\.8 s and tell at most"
    ):
        choose(WINDOWS, RATE, linear(1.0))
    with pytest.raises(ValueError, match="there is none"):
        choose((), RATE, linear(0.1))
    with pytest.raises(ValueError, match="tell at most 0, "):
        choose((100,), RATE, linear(0.1))


@pytest.mark.parametrize("wrong", [{"utilisation": 0}, {"utilisation": 1.1}, {"margin": 0.5}, {"fade": -1}])
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match="expected utilisation"):
        choose(WINDOWS, RATE, linear(0.1), **wrong)


@given(
    windows=st.sets(st.integers(20, 400), min_size=1, max_size=4),
    shares=st.lists(st.floats(0, 1.2), min_size=4, max_size=4),
    latency=st.integers(1, 500),
    utilisation=st.floats(0.3, 1),
    lookahead=st.integers(0, 50),
    fade=st.integers(0, 20),
)
def test_against_a_search_of_everything(windows, shares, latency, utilisation, lookahead, fade):
    rate = 100
    costs = {w: shares[i] * w / rate for i, w in enumerate(sorted(windows))}
    possible = {
        window: hops
        for window in windows
        if (
            hops := [
                hop
                for hop in range(1, window - fade - lookahead + 1)
                if hop >= costs[window] / utilisation * rate
                and promise(frame(window, hop, lookahead, fade), rate, costs.__getitem__) <= latency
            ]
        )
    }
    try:
        found = choose(windows, rate, costs.__getitem__, latency, utilisation, lookahead, fade)
    except ValueError:
        assert not possible
    else:
        assert found.window == max(possible)
        assert found.hop in possible[found.window]
        assert (found.fade, found.lookahead) == (fade, lookahead)
        assert found.hop == min(possible[found.window]) or found.hop <= found.window // 4


def test_hop_never_leaves_the_window():
    found = choose((1000,), 1000, linear(0.01, 1000), latency=10_000, lookahead=880, fade=20)
    assert found == frame(1000, 100, 880, 20)

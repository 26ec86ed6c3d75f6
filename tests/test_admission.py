"""Who is let in, by arithmetic that a reader can follow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.admission import LANE, Admission, Demand, Group, Load
from server.costs import Costs
from streaming.wire import ClientError


def costs(first: float, more: float) -> Costs:
    """A run of n windows of 256 samples takes first + (n - 1) * more seconds."""
    batches = (1, 2, 4, 8, 16, 32)
    return Costs((256,), (batches,), (tuple(first + (n - 1) * more for n in batches),))


def load(**more: float) -> Load:
    return Load({"short": 1.0, "long": 1.0, "spare": 1.0}, 0.0003, **more)


SMALL = Group("small", costs(0.001, 0.0001), 256, 0.016, "short")
LONG = Group("long", costs(0.8, 0.8), 256, 1.0, "long", cores=2)


def test_costs_between_and_beyond_what_was_measured() -> None:
    known = Costs((100, 300), ((1, 2), (1,)), ((1.0, 1.5), (3.0,)))
    assert known.run(100) == 1.0
    assert known.run(200) == 2.0
    assert known.run(600) == 6.0
    assert known.run(100, 4) == 3.0  # in proportion to the largest batch that was tried
    assert known.run(300, 2) == 6.0


def test_one_after_another_until_the_next_would_break_a_promise() -> None:
    door = Admission(load(), 100, 1, cores=2)
    demand = Demand(SMALL, allowance=0.015)
    seats = [door.seat(demand) for _ in range(100)]
    inside = 0
    with pytest.raises(ClientError) as refused:
        for seat in seats:
            seat.__enter__()
            inside += 1
    assert (refused.value.code, inside) == ("capacity", door.inside)
    assert refused.value.retry_after_ms
    # run(n), the run of the n - 1 others before it, and the event loop for n chunks, which is busy for b = 0.3 n / 16:
    # 0.9 + 0.1 n + 0.8 + 0.1 n + 0.3 n (1 + b / (2 - 2 b)) ms
    assert inside == 21
    assert "later than promised" in refused.value.message
    assert door.free(demand) == 0
    seats[0].__exit__(None, None, None)
    assert door.free(demand) == 1


def test_a_refused_one_is_not_let_in_a_moment_later_because_a_figure_wavered() -> None:
    state = load()
    door, demand = Admission(state, 100, 1, cores=2), Demand(SMALL, allowance=0.015)
    seats = [door.seat(demand) for _ in range(21)]
    for seat in seats:
        seat.__enter__()
    assert door.refusal(demand)
    with pytest.raises(ClientError), door.seat(demand):
        pass
    state.chunk_s *= 0.95  # enough for one
    assert door.forecast(demand).refusal() is None
    assert door.refusal(demand)
    seats.pop().__exit__(None, None, None)
    assert door.refusal(demand) is None


def test_a_tight_promise_inside_keeps_others_out() -> None:
    door = Admission(load(), 100, 1, cores=2)
    tight, easy = Demand(SMALL, allowance=0.006), Demand(SMALL, allowance=0.018)
    alone = door.free(easy)
    with door.seat(tight):
        assert 0 < door.free(easy) < alone


def test_a_long_run_does_not_hold_up_another_lane_but_takes_its_share_of_the_cores() -> None:
    door = Admission(load(), 100, 1, cores=2)
    easy = Demand(SMALL, allowance=0.018)
    with door.seat(Demand(LONG, allowance=1.7)):
        assert door.free(easy) >= 2
        assert door.forecast().lanes == {"long": 0.8}
        assert door.refusal(Demand(LONG, allowance=1.7)) == (
            f"the models would be computing 160% of the time (at most {LANE:.0%} in lane long)"
        )
    with door.seat(Demand(Group("same", LONG.costs, 256, 2.0, "short"), allowance=3.0)):
        assert door.refusal(easy) is not None
        assert "a session of small" in (door.refusal(easy) or "")


def test_a_slower_machine_and_broken_promises_close_the_door() -> None:
    state = load()
    door = Admission(state, 100, 1, cores=2)
    easy = Demand(SMALL, allowance=0.018)
    fast = door.free(easy)
    state.slower["short"] = 2.0
    assert door.free(easy) < fast
    with door.seat(easy):
        state.late = 0.5
        assert door.refusal(easy) == "50% of what is told just now is later than promised"


def test_too_slow_for_anybody_says_so_and_not_to_try_again() -> None:
    with pytest.raises(ClientError) as refused, Admission(load(), 9, 1, cores=2).seat(Demand(LONG, allowance=0.1)):
        pass
    assert "too slow on this machine" in refused.value.message
    assert refused.value.retry_after_ms is None


def test_files_are_counted_and_take_no_seat() -> None:
    door = Admission(load(), 1, 1, cores=2)
    with door.seat(None):
        assert (door.inside, door.files) == (0, 1)
        with pytest.raises(ClientError, match="all 1 places for files are taken"), door.seat(None):
            pass
        with door.seat(Demand(SMALL, 0.018)):
            assert door.refusal(Demand(SMALL, 0.018)) == "all 1 sessions are taken"
    assert (door.inside, door.files) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from([SMALL, LONG]), st.floats(0.001, 4)), max_size=30))
def test_whoever_is_let_in_everybody_inside_keeps_its_promise(wanted: list[tuple[Group, float]]) -> None:
    door = Admission(load(), 100, 1, cores=2)
    for group, allowance in wanted:
        try:
            door.seat(Demand(group, allowance)).__enter__()
        except ClientError:
            continue
        assert door.forecast().refusal() is None

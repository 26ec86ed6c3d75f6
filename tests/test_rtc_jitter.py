"""The receive buffer on networks of every kind: its pieces tile the sender's timeline, and it is as quick as the network."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rtp_streams import BASE, MS, Sent, Told, network, opus, receive, sender, tiles

from server.webrtc.delays import Delays
from server.webrtc.jitter import CEILING, FLOOR, MOST_HELD, JitterBuffer

SECOND = 1000 * MS


def lags(told: list[Told]) -> list[int]:
    """By how much each piece was told later than on a network without jitter and loss, at once."""
    return [one.when - one.end - BASE for one in told]


def at_their_places(packets: list[Sent], told: list[Told], first: int = 0) -> int:
    """Asserts that every payload that was told lies where its sender put it, none twice; how many there are."""
    position = {one.payload: one.position - first for one in packets}
    heard = [one.piece for one in told if one.piece.payload]
    for piece in heard:
        assert piece.start == position[piece.payload] + piece.skip
    assert len({piece.payload for piece in heard}) == len(heard)
    return len(heard)


def test_what_comes_in_order_is_told_as_it_comes() -> None:
    packets = sender(1000)
    buffer, told = receive(packets)
    assert tiles(told) == 960_000
    assert at_their_places(packets, told) == 1000
    assert set(lags(told)) == {0}
    assert (buffer.lost, buffer.discarded, buffer.jitter, buffer.waited) == (0, 0, 0, 0)
    assert buffer.wait == FLOOR


def test_a_lost_packet_holds_up_nothing_beyond_the_one_that_shows_it() -> None:
    packets = sender(300)
    del packets[100]
    buffer, told = receive(packets)
    assert tiles(told) == 300 * 960
    gap = next(one for one in told if one.piece.payload is None)
    assert (gap.piece.start, gap.piece.samples, gap.piece.following) == (96_000, 960, packets[100].payload)
    assert max(lags(told)) == 960
    assert lags(told)[-150:] == [0] * 150
    assert buffer.lost == 1


def test_a_burst_of_losses_is_one_gap_and_the_delay_is_back_at_once() -> None:
    packets = sender(300)
    del packets[100:110]
    buffer, told = receive(packets)
    assert tiles(told) == 300 * 960
    gaps = [one for one in told if one.piece.payload is None]
    assert sum(one.piece.samples for one in gaps) == 9600
    assert [one.piece.following for one in gaps][-1] == packets[100].payload
    assert buffer.lost == 10
    assert set(lags(told[110:])) == {0}


@pytest.mark.parametrize("early", [1, 2])
def test_reordering_loses_nothing_once_it_is_known(early: int) -> None:
    packets = sender(500)
    for k in range(50, 450, 7):
        packets[k] = replace(packets[k], arrives=packets[k].arrives + early * 960 + 1)
    buffer, told = receive(packets)
    assert tiles(told) == 500 * 960
    assert at_their_places(packets, told) >= 496
    assert buffer.lost == buffer.discarded <= 4
    assert all(one.piece.payload for one in told[100:])


def test_duplicates_change_nothing() -> None:
    packets = sender(200)
    again = [replace(one, arrives=one.arrives + k % 3000) for k, one in enumerate(packets)]
    buffer, told = receive(packets + again)
    assert tiles(told) == 200 * 960
    assert at_their_places(packets, told) == 200
    assert (buffer.packets, buffer.discarded, buffer.lost) == (400, 200, 0)


@pytest.mark.parametrize(("sequence", "timestamp"), [(65_535, 2**32 - 1), (0, 0), (65_000, 2**31 - 960)])
def test_numbers_wrap(sequence: int, timestamp: int) -> None:
    packets = sender(1000, sequence=sequence, timestamp=timestamp)
    buffer, told = receive(network(packets, loss=0.05))
    assert tiles(told) == 960_000
    at_their_places(packets, told)
    assert buffer.discarded == 0


def test_five_percent_and_fifty_milliseconds() -> None:
    packets = sender(6000)
    arrived = network(packets, loss=0.05, jitter=50 * MS)
    buffer, told = receive(arrived)
    assert tiles(told) == 6000 * 960
    assert at_their_places(packets, told) >= 0.995 * len(arrived)
    assert buffer.discarded < 0.005 * len(arrived)
    late = sorted(lags(told))
    # The jitter itself, and for what is behind a hole the wait, which is in proportion to it.
    assert late[len(late) // 2] <= 50 * MS
    assert late[-1] <= 100 * MS
    assert 12 * MS < buffer.jitter < 25 * MS  # of uniform delays it is a third of their range


@pytest.mark.parametrize("trouble", ["loss", "jitter", "stall"])
def test_after_trouble_the_delay_is_at_its_floor_within_two_seconds(trouble: str) -> None:
    calm, bad, later = sender(700)[:100], sender(700)[100:300], sender(700)[300:]
    if trouble == "loss":
        bad = network(bad, seed=1, loss=0.3, burst=3)
    elif trouble == "jitter":
        bad = network(bad, seed=1, jitter=200 * MS)
    else:
        bad = [replace(one, arrives=max(one.arrives, bad[100].arrives)) for one in bad]
    buffer, told = receive(calm + bad + later)
    assert tiles(told) == 700 * 960
    settled = [one for one in told if one.piece.start >= later[0].position + 2 * SECOND]
    assert set(lags(settled)) == {0}
    assert buffer.wait == FLOOR
    # A packet lost now costs what it costs on a network that never was bad.
    more = sender(750)[700:]
    del more[10]
    buffer, after = receive(more, buffer=buffer)
    assert max(lags(after)) == 960


@pytest.mark.parametrize("drift", [-500e-6, 500e-6])
def test_the_senders_clock_is_the_timeline(drift: float) -> None:
    """Ten minutes on a clock that is 300 ms off at their end: nothing is dropped, invented beyond the losses, or late."""
    packets = sender(30_000, drift=drift)
    arrived = network(packets, loss=0.01)
    buffer, told = receive(arrived)
    assert tiles(told) == 30_000 * 960
    assert at_their_places(packets, told) == len(arrived)
    assert sum(one.piece.samples for one in told if not one.piece.payload) == 960 * buffer.lost
    # Against the drifting clock, how late each was.
    late = [one.when - one.end * (1 + drift) - BASE for one in told]
    assert max(late) < 50 * MS
    assert max(late[-1000:]) <= max(late[:1000]) + MS


def test_while_nothing_comes_silence_goes_on_by_the_clock() -> None:
    packets = sender(100)
    buffer, told = receive(packets, until=60 * SECOND)
    assert tiles(told) == buffer.told
    assert 0 < 60 * SECOND - buffer.told < 500 * MS
    assert [one.piece for one in told if not one.piece.payload and one.piece.following] == []
    assert buffer.lost == 0


def test_a_pause_whose_timestamps_go_on_is_filled_exactly() -> None:
    """As with discontinuous transmission: the next packet lacks no predecessor, so there is nothing to wait for."""
    packets = sender(200)
    paused = packets[:100] + [replace(one, sequence=one.sequence - 60) for one in packets[160:]]
    buffer, told = receive(paused)
    assert tiles(told) == 200 * 960
    at_their_places(paused, told)
    assert (buffer.lost, buffer.discarded) == (0, 0)
    assert lags(told)[-40:] == [0] * 40
    assert all(one.piece.following is None for one in told)


def test_a_pause_whose_timestamps_stood_still_costs_a_second() -> None:
    """A track that was replaced by none for ten seconds: the clock went on, the sender's time did not."""
    packets = sender(400)
    paused = packets[:100] + [replace(one, arrives=one.arrives + 10 * SECOND) for one in packets[100:]]
    buffer, told = receive(paused)
    assert tiles(told) == buffer.told
    assert abs(buffer.told - (400 * 960 + 10 * SECOND)) < 100 * MS
    assert buffer.discarded <= 51
    assert {one.piece.payload for one in told[-200:]} <= {one.payload for one in packets}


def test_a_sender_that_was_held_up_and_catches_up_keeps_its_timeline() -> None:
    """A second late, then half as fast again as the clock: what is late is lost, and time stays the sender's."""
    packets = sender(500)
    for k in range(100, 500):
        caught = packets[99].arrives + SECOND + (k - 99) * 640
        packets[k] = replace(packets[k], arrives=max(packets[k].arrives, caught))
    buffer, told = receive(packets)
    assert tiles(told) == 500 * 960
    at_their_places(packets, told)
    assert 10 < buffer.discarded < 120


@pytest.mark.parametrize("gap", [0, 3 * SECOND])
@pytest.mark.parametrize("source", [1, 2])
def test_a_sender_that_begins_anew_goes_on_where_the_clock_is(gap: int, source: int) -> None:
    before = sender(100)
    after = sender(
        100, sequence=7, timestamp=123_456_789, first=1000, at=before[-1].arrives - BASE + gap, source=source
    )
    buffer, told = receive(before + after)
    assert tiles(told) == 200 * 960 + gap
    assert len([one for one in told if one.piece.payload]) == 200
    assert (buffer.lost, buffer.discarded) == (0, 0)
    assert max(lags(told)[-100:]) == 0


def test_packets_of_every_length() -> None:
    chance, packets, at = random.Random(5), [], 0
    for k in range(800):
        samples = chance.choice((120, 240, 480, 960, 1920, 2880, 3840, 4800, 5760))
        packets.append(Sent(at + samples + BASE, k, 77 + at, opus(samples, k), at, samples))
        at += samples
    buffer, told = receive(network(packets, loss=0.1))
    assert tiles(told) == buffer.told == at
    at_their_places(packets, told)
    assert max(lags(told)) < 400 * MS


def test_garbage_and_empty_packets_are_counted_and_no_more() -> None:
    packets = sender(100)
    bad = [replace(one, payload=payload) for one in packets for payload in (b"", b"\xff\x00", b"\x03\x3f")]
    buffer, told = receive(packets + bad)
    assert tiles(told) == 96_000
    assert buffer.discarded == 300


def test_a_flood_is_bounded() -> None:
    buffer = JitterBuffer()
    for k in range(3 * MOST_HELD):
        buffer.push(k % 2**16, 960 * k % 2**32, opus(960, k), 1000)
    assert len(buffer._held) == MOST_HELD
    assert buffer.discarded == 2 * MOST_HELD
    assert len(buffer.pull(1000)) == MOST_HELD


def test_the_end_tells_what_waits() -> None:
    packets = sender(20)
    buffer = JitterBuffer()
    for one in packets[:10] + packets[11:15] + packets[17:]:
        buffer.push(one.sequence % 2**16, one.timestamp % 2**32, one.payload, packets[0].arrives)
    told = [Told(0, piece) for piece in (*buffer.pull(packets[0].arrives), *buffer.finish())]
    assert tiles(told) == 20 * 960
    assert buffer.lost == 3
    assert buffer.finish() == []


def test_before_the_first_packet_there_is_nothing() -> None:
    buffer = JitterBuffer()
    assert buffer.due() is None
    assert buffer.pull(10**9) == []
    assert buffer.finish() == []


@st.composite
def storms(draw: st.DrawFn) -> list[Sent]:
    """Senders one after the other, of any packet length and numbers, over a network that does anything."""
    packets: list[Sent] = []
    at = draw(st.integers(0, 10**9))
    for source in range(draw(st.integers(1, 3))):
        samples = draw(st.sampled_from((120, 480, 960, 2880, 5760)))
        position = 0
        timestamp, sequence = draw(st.integers(0, 2**32 - 1)), draw(st.integers(0, 2**16 - 1))
        same = draw(st.booleans())
        for k in range(draw(st.integers(1, 40))):
            pause = draw(st.sampled_from((0,) * 20 + (50 * MS, 700 * MS, 12 * SECOND)))
            position += samples
            at += samples + pause
            position += pause if draw(st.booleans()) else 0
            copies = draw(st.sampled_from((1,) * 8 + (0, 0, 2)))
            for _ in range(copies):
                late = draw(st.sampled_from((0, 0, 0, MS, 30 * MS, 300 * MS, 3 * SECOND)))
                tag = source * 1000 + k
                packets.append(
                    Sent(
                        at + late,
                        sequence + k,
                        timestamp + position,
                        opus(samples, tag),
                        position,
                        samples,
                        0 if same else source,
                    )
                )
    return packets


@settings(max_examples=60, deadline=None)
@given(storms(), st.sampled_from((0, 5 * SECOND)))
def test_any_storm_leaves_a_timeline_without_holes(packets: list[Sent], more: int) -> None:
    last = max((one.arrives for one in packets), default=0)
    buffer, told = receive(packets, until=last + more)
    told += [Told(last, piece) for piece in buffer.finish()]
    end = tiles(told)
    assert end == buffer.told
    length = {one.payload: one.samples for one in packets}
    heard = [one.piece for one in told if one.piece.payload]
    for piece in heard:
        assert 0 <= piece.skip < length[piece.payload or b""] == piece.samples + piece.skip
    assert len(heard) + buffer.discarded == buffer.packets == len(packets)
    # Not much more time was told than has passed, whatever the timestamps claim.
    if packets:
        assert (
            end <= last + more - min(one.arrives for one in packets) + sum(one.samples for one in packets) + 40 * SECOND
        )
    assert FLOOR <= buffer.wait <= CEILING


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(-1000, 1000)), min_size=1, max_size=80))
def test_delays_are_those_of_the_window(steps: list[tuple[int, int]]) -> None:
    delays, now, all_of_them = Delays(1000), 0, []
    for passed, delay in steps:
        now += passed
        delays.add(now, delay)
        all_of_them.append((now, delay))
        within = sorted(delay for when, delay in all_of_them if when > now - 1000)
        assert (delays.least, delays.share(100), len(delays)) == (within[0], within[-1], len(within))
        assert sum(value <= delays.share(90) for value in within) >= 0.9 * len(within)
        assert delays.spread(100) == within[-1] - within[0]
        assert delays.spread(0) == 0

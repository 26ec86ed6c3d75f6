"""Any order of messages, against a real server: what must come back is predicted by `protocol_model`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial

import httpx
import numpy as np
import pytest
import serving
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from protocol_model import RATE, Line, Session, pcm

from streaming.framing import Array

SIZES = st.integers(0, 3000) | st.sampled_from([0, 1, 127, 128, 159, 160, 161])
GAIN = st.floats(0, 4, width=32)
MODELS = st.sampled_from(["toy-split", "toy-delay"])
NO_MESSAGES = (
    "hello", "[]", "null", '{"type":"begin"}', '{"type":"mark"}', '{"type":"mark","id":7}', '{"type":"end","x":1}',
)  # fmt: skip
FIRST: list[tuple[str | bytes, str]] = [
    *((text, "bad_message") for text in NO_MESSAGES),
    (bytes(4), "order"),
    *((text, "order") for text in ('{"type":"end"}', '{"type":"mark","id":"a"}', '{"type":"gains","gains":{}}')),
    *(
        (json.dumps({"type": "resume", "token": token, "received": 0}), "resume")
        for token in ("x", "a.b", "\u00e9.\ud800")
    ),
    (serving.start("nope"), "unknown_model"),
]
LATER: list[tuple[str | bytes, str]] = [
    *((text, "bad_message") for text in NO_MESSAGES),
    (b"123", "bad_audio"),
    (bytes((1 << 20) + 4), "too_large"),
    (serving.start("toy-split"), "order"),
    (json.dumps({"type": "resume", "token": "x", "received": 0}), "order"),
]


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with serving.running(serving.toy_registry(), admission="count", max_file_sessions=50, max_ahead_s=1000) as host:
        yield host


def state(name: str) -> object:
    """The rule is for this state only: new, open, ended (and not yet done), lost."""
    return precondition(lambda self: self.state == name)


class Protocol(RuleBasedStateMachine):
    def __init__(self, host: str) -> None:
        super().__init__()
        self.host, self.random = host, np.random.default_rng(1)
        self.line = Line(host)
        self._renew()

    def _renew(self) -> None:
        self.line.vanish()
        self.state, self.line = "new", Line(self.host)
        self.session = Session("", "", None)

    def _refused(self, code: str) -> None:
        session = self.session if self.state != "new" else None
        assert self.line.refused(session) == code
        self._renew()

    @state("new")
    @rule(model=MODELS, format=st.sampled_from(["s16le", "f32le"]), mix=st.booleans(), live=st.booleans())
    def start(self, model: str, format: str, mix: bool, live: bool) -> None:
        self.session = Session(model, format, {} if mix else None)
        more = {"output": "mix"} if mix else {}
        self.line.say(type="start", model=model, rate=RATE, channels=1, format=format, live=live, **more)
        ready = self.line.begin(self.session)
        assert ready["stems"] == (["mix"] if mix else ["low", "high"])
        assert (ready["rate"], ready["channels"], ready["format"], ready["replay_from"]) == (RATE, 1, format, 0)
        self.state = "open"

    @state("new")
    @rule(first=st.sampled_from(FIRST))
    def mistake_at_the_door(self, first: tuple[str | bytes, str]) -> None:
        message, code = first
        self.line.send(message)
        self._refused(code)

    @state("open")
    @rule(sizes=st.lists(SIZES, min_size=1, max_size=5))
    def audio(self, sizes: list[int]) -> None:
        for size in sizes:
            self._speak(self.random.uniform(-0.9, 0.9, size).astype(np.float32))

    def _speak(self, samples: Array) -> None:
        data, heard = pcm(samples, self.session.format)
        self.line.send(data)
        self.session.audio = np.concatenate((self.session.audio, heard))

    @precondition(lambda self: self.state == "open" and self.session.format == "f32le")
    @rule(size=st.integers(1, 500), value=st.sampled_from([np.nan, np.inf, -np.inf]))
    def audio_that_is_no_number(self, size: int, value: float) -> None:
        self._speak(np.full(size, value, np.float32))
        self.session.spoilt += 1

    @state("open")
    @rule(id=st.text(min_size=1, max_size=200))
    def mark(self, id: str) -> None:
        self.session.marks.append((id, len(self.session.audio)))
        self.line.say(type="mark", id=id)

    @precondition(lambda self: self.state == "open" and self.session.gains is not None)
    @rule(low=GAIN)
    def gains(self, low: float) -> None:
        self.line.say(type="gains", gains={"low": low})
        self.session.gains["low"] = low

    @state("open")
    @rule(later=st.sampled_from(LATER))
    def mistake(self, later: tuple[str | bytes, str]) -> None:
        message, code = later
        self.line.send(message)
        self._refused(code)

    @precondition(lambda self: self.state == "open" and self.session.gains is None)
    @rule()
    def gains_without_a_mix(self) -> None:
        self.line.say(type="gains", gains={"low": 1})
        self._refused("bad_message")

    @state("open")
    @rule()
    def listen(self) -> None:
        self.line.poll(self.session)

    @state("open")
    @rule()
    def end(self) -> None:
        self.line.say(type="end")
        self.session.ended, self.state = True, "ended"

    @state("ended")
    @rule()
    def done(self) -> None:
        assert self.line.finish(self.session) == 1000
        assert self.session.told == len(self.session.audio)
        assert not self.session.marks
        self._renew()

    @precondition(lambda self: self.state in ("open", "ended"))
    @rule(listen=st.booleans())
    def vanish(self, listen: bool) -> None:
        if listen and self.state == "open":
            self.line.poll(self.session)
        self.line.vanish()
        self.state = "lost"

    @state("lost")
    @rule()
    def forget(self) -> None:
        self._renew()

    @state("lost")
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        self.line = Line(self.host)
        self._go_on(data)

    @state("open")
    @rule(data=st.data())
    def resume_while_the_old_connection_is_open(self, data: st.DataObject) -> None:
        old, self.line = self.line, Line(self.host)
        self._go_on(data)
        old.replaced()
        old.vanish()

    def _go_on(self, data: st.DataObject) -> None:
        """Any token of the session does; what has not come is sent again, each mark at its place."""
        session = self.session
        token = data.draw(st.sampled_from(session.tokens))
        self.line.say(type="resume", token=token, received=session.told)
        at = self.line.begin(session)["replay_from"]
        assert max(0, session.told - session.kept) <= at <= session.told
        if session.gains:
            self.line.say(type="gains", gains=session.gains)
        for id, place in session.marks:
            self.line.send(pcm(session.audio[at:place], session.format)[0])
            self.line.say(type="mark", id=id)
            at = max(at, place)
        self.line.send(pcm(session.audio[at:], session.format)[0])
        if session.ended:
            self.line.say(type="end")
        self.state = "ended" if session.ended else "open"

    def teardown(self) -> None:
        if self.state == "open":
            self.end()
        if self.state == "ended":
            self.done()
        self.line.vanish()


def test_any_order_of_messages(host: str) -> None:
    rules = settings(max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(partial(Protocol, host), settings=rules)  # type: ignore[no-untyped-call]
    for _ in range(100):
        figures = httpx.get(f"http://{host}/metrics").text.splitlines()
        inside = [line.split()[-1] for line in figures if line.startswith("rivulet_sessions{")]
        if set(inside) == {"0.0"}:
            return
        time.sleep(0.1)
    raise AssertionError(f"got {inside} sessions inside, expected none")

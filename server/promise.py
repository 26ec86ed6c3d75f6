"""Which framing a session gets, the latency that it is promised, and what that demands of the machine."""

from __future__ import annotations

import os
from dataclasses import dataclass

from server.admission import Demand, Group
from server.engine import Lane
from server.shelf import Loaded
from streaming import choose
from streaming.choose import MARGIN, Impossible, TooSlow
from streaming.framing import Framing
from streaming.plan import Plan
from streaming.wire import ClientError

JITTER = 0.008  # s; timers, Python's lock, the operating system, the socket
ALLOWANCE = JITTER + 0.002  # s; that, and the event loop's work for a few others
LONGEST_HOP = 0.25  # s; of a stateful model for which much latency is allowed: longer hops save little more


@dataclass(frozen=True)
class Promise:
    """How a stream is cut, and `seconds`: by when a sample that was heard is told, computing included.

    `demand` is what that takes of the machine; None for a file, which is given what is left, and promised nothing.
    """

    plan: Plan
    seconds: float
    lane: Lane
    demand: Demand | None

    @property
    def allowance(self) -> float:
        """Seconds between a window's last sample and its stems' leaving."""
        return self.seconds - self.plan.latency / self.plan.rate


def promise(model: Loaded, rate: int, latency: float | None = None) -> Promise:
    """What this machine can keep for a live stream at `rate` Hz, within `latency` seconds if asked for.

    Raises:
        ClientError: `latency`, naming the smallest that is possible; `capacity` where none is.
    """
    if latency is not None and latency < (least := smallest(model, rate)):
        raise _refusal(model, latency, least)
    if model.separator.spec.windows:
        return _windowed(model, rate, latency)
    return _stateful(model, rate, latency)


def for_file(model: Loaded, rate: int, latency: float | None = None) -> Promise:
    """As fast as it goes; cut as a live stream of this latency would be, if one is asked for, else in few, long windows.

    `seconds` is what it would be if nobody else were here. Raises as `promise` does, of a latency.
    """
    spec = model.separator.spec
    framing = choose.unhurried(spec.framing, spec.windows, spec.rate)
    if latency is not None:
        framing = promise(model, rate, latency).plan.framing
    return Promise(plan := _plan(model, rate, framing), _least(model, plan), "spare", None)


def again(model: Loaded, rate: int, framing: Framing, seconds: float) -> Promise:
    """A live promise that was given before, perhaps on another machine: the same framing, and no less time than here."""
    plan = _plan(model, rate, framing)
    return _live(model, plan, max(seconds, _least(model, plan)))


def smallest(model: Loaded, rate: int) -> float:
    """The least latency, in seconds, that may be asked for.

    Raises:
        ClientError: `capacity`: this machine is too slow for the model, whatever the latency.
    """
    spec = model.separator.spec
    if not spec.windows:
        return _least(model, _plan(model, rate, spec.framing))
    try:
        choose.choose(spec.windows, spec.rate, model.costs.run, 0.0)
    except Impossible as error:
        return error.smallest + ALLOWANCE + _conversion(model, rate)
    except TooSlow as error:
        raise ClientError("capacity", f"{spec.name}: {error}") from None
    raise AssertionError("no model is told before it has heard")


def _windowed(model: Loaded, rate: int, latency: float | None) -> Promise:
    spec = model.separator.spec
    room = None if latency is None else latency - ALLOWANCE - _conversion(model, rate)
    try:
        framing = choose.choose(spec.windows, spec.rate, model.costs.run, room)
    except TooSlow as error:
        raise ClientError("capacity", f"{spec.name}: {error}") from None
    return _live(model, plan := _plan(model, rate, framing), _least(model, plan))


def _stateful(model: Loaded, rate: int, latency: float | None) -> Promise:
    """Unasked, a hop's time to compute, so that all who are inside may use the machine to the full; asked for less, less;
    asked for more, several hops at a time, of which the machine carries far more sessions."""
    spec = model.separator.spec
    plan = _plan(model, rate, spec.framing)
    comfortable = _comfortable(model, plan)
    if latency is None or latency < comfortable:
        return _live(model, plan, min(latency or comfortable, comfortable))
    for hops in range(int(LONGEST_HOP * spec.rate / spec.framing.hop), 1, -1):
        longer = _plan(model, rate, choose.several(spec.framing, hops))
        if _comfortable(model, longer) <= latency:
            return _live(model, longer, _comfortable(model, longer))
    return _live(model, plan, comfortable)


def _live(model: Loaded, plan: Plan, seconds: float) -> Promise:
    framing, spec = plan.framing, model.separator.spec
    group = Group(
        model.name,
        model.costs,
        framing.window,
        framing.hop / spec.rate,
        model.costs.lane(framing.window),
        spec.threads or os.cpu_count() or 1,
    )
    return Promise(plan, seconds, group.lane, Demand(group, seconds - plan.latency / plan.rate - JITTER))


def _plan(model: Loaded, rate: int, framing: Framing) -> Plan:
    spec = model.separator.spec
    return Plan(rate, spec.channels, spec.rate, framing)


def _least(model: Loaded, plan: Plan) -> float:
    return plan.latency / plan.rate + MARGIN * model.costs.run(plan.framing.window) + ALLOWANCE


def _comfortable(model: Loaded, plan: Plan) -> float:
    hop = plan.framing.hop / plan.model_rate
    return max(_least(model, plan), plan.latency / plan.rate + hop + ALLOWANCE)


def _conversion(model: Loaded, rate: int) -> float:
    """Seconds that two sample-rate conversions add to a framing's latency."""
    spec = model.separator.spec
    return _plan(model, rate, spec.framing).latency / rate - spec.framing.latency / spec.rate


def _refusal(model: Loaded, asked: float, least: float) -> ClientError:
    name = model.separator.spec.name
    message = f"got latency_ms {asked * 1000:.0f}, the smallest possible here for {name} is {least * 1000:.0f}"
    return ClientError("latency", message)

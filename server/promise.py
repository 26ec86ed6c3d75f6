"""Which framing a session gets, and the latency that it is promised."""

from __future__ import annotations

from dataclasses import dataclass

from server.shelf import Loaded
from streaming.choose import MARGIN, Impossible, TooSlow, choose
from streaming.framing import Framing
from streaming.pipeline import Plan
from streaming.wire import ClientError

ALLOWANCE = 0.010  # s; the event loop, conversion and a neighbour's step


@dataclass(frozen=True)
class Promise:
    """How a stream is cut, and `seconds`: by when a sample that was heard is told, computing included."""

    plan: Plan
    seconds: float


def promise(model: Loaded, rate: int, latency: float | None = None) -> Promise:
    """What this machine can keep for a stream at `rate` Hz, within `latency` seconds if asked for.

    Raises:
        ClientError: `latency`, naming the smallest that is possible; `capacity` where none is.
    """
    spec = model.separator.spec
    least = _kept(model, rate, spec.framing)
    if spec.windows:
        overhead = ALLOWANCE + _conversion(model, rate)
        try:
            framing = choose(spec.windows, spec.rate, model.cost, None if latency is None else latency - overhead)
        except Impossible as error:
            raise _refusal(model, latency or 0.0, error.smallest + overhead) from None
        except TooSlow as error:
            raise ClientError("capacity", f"{spec.name}: {error}") from None
        return _kept(model, rate, framing)
    if latency is not None and least.seconds > latency:
        raise _refusal(model, latency, least.seconds)
    return least


def smallest(model: Loaded, rate: int) -> float:
    """The least latency, in seconds, that may be asked for."""
    spec = model.separator.spec
    if not spec.windows:
        return promise(model, rate).seconds
    try:
        choose(spec.windows, spec.rate, model.cost, 0.0)
    except Impossible as error:
        return error.smallest + ALLOWANCE + _conversion(model, rate)
    raise AssertionError("no model is told before it has heard")


def _kept(model: Loaded, rate: int, framing: Framing) -> Promise:
    spec = model.separator.spec
    plan = Plan(rate, spec.channels, spec.rate, framing)
    return Promise(plan, plan.latency / rate + MARGIN * model.cost(framing.window) + ALLOWANCE)


def _conversion(model: Loaded, rate: int) -> float:
    """Seconds that two sample-rate conversions add to a framing's latency."""
    spec = model.separator.spec
    return Plan(rate, spec.channels, spec.rate, spec.framing).latency / rate - spec.framing.latency / spec.rate


def _refusal(model: Loaded, asked: float, least: float) -> ClientError:
    name = model.separator.spec.name
    message = f"got latency_ms {asked * 1000:.0f}, the smallest possible here for {name} is {least * 1000:.0f}"
    return ClientError("latency", message)

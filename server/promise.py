"""Which framing a session gets, and the latency that it is promised."""

from __future__ import annotations

from dataclasses import dataclass

from server.shelf import Loaded
from streaming.choose import Impossible, choose
from streaming.pipeline import Plan
from streaming.wire import ClientError

ALLOWANCE = 0.010  # s; the event loop, conversion and a neighbour's step
MARGIN = 2.0  # a step may take this many times what it took when it was measured


@dataclass(frozen=True)
class Promise:
    """How a stream is cut, and `seconds`: by when a sample that was heard is told, computing included."""

    plan: Plan
    seconds: float


def promise(model: Loaded, rate: int, latency: float | None = None) -> Promise:
    """What this machine can keep for a stream at `rate` Hz, within `latency` seconds if asked for.

    Raises:
        ClientError: `latency`, naming the smallest that is possible.
    """
    spec = model.separator.spec
    framing = _framing(model, None if latency is None else latency - ALLOWANCE)
    plan = Plan(rate, spec.channels, spec.rate, framing)
    seconds = plan.latency / rate + MARGIN * model.cost(framing.window) + ALLOWANCE
    if latency is not None and seconds > latency:
        message = f"got latency_ms {latency * 1000:.0f}, the smallest possible here for {spec.name} is"
        raise ClientError("latency", f"{message} {smallest(model, rate) * 1000:.0f}")
    return Promise(plan, seconds)

"""Spoiled conversations with a real server process: `python tests/fuzz/socket_fuzz.py --messages 100000`.

Several connections at once say what no client should: see `conversations.py`. At the end nobody may be inside, a right
conversation must work, memory and open files must not have grown, and the log may hold no exception. Prints a table of
how connections ended, then the account as JSON; the exit status is 0 only when nothing was wrong. `--replay SEED` has one
conversation again, as an account names it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # of the tests, in which `fuzz` is a package
from fuzz import frames  # noqa: E402
from fuzz.conversations import MODELS, Conversation, conversation, spoiled, text  # noqa: E402
from fuzz.frames import BINARY, Sent  # noqa: E402
from fuzz.talk import Outcome, talk  # noqa: E402
from fuzz.target import Target, started  # noqa: E402

GROWTH_MB = 64.0  # of resident memory, after the first third of the messages
LEAVING_S = (
    90.0  # s; until the last session is over: a live one that was given a minute at once reads on after that minute
)


@dataclass
class Tally:
    """What happened so far."""

    messages: int = 0
    connections: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, outcome: Outcome, seed: int) -> None:
        self.messages += outcome.messages
        self.connections += 1
        self.ended[outcome.ended] += 1
        if outcome.fault:
            self.faults.append(f"seed {seed}: {outcome.fault}")


def chosen(seed: int, tokens: Sequence[str]) -> tuple[Conversation, random.Random]:
    """The conversation of this seed, and the random numbers with which to have it."""
    rng = random.Random(seed)
    whole = conversation(rng, tokens)
    return (spoiled(whole, rng) if rng.random() < 0.9 else whole), rng


async def crowd(target: Target, tally: Tally, messages: int, clients: int, seed: int, tokens: Sequence[str]) -> None:
    """So many clients at once until `messages` have been sent in all. Each conversation has a seed of its own."""
    seeds = iter(range(seed << 32, (seed + 1) << 32))

    async def client() -> None:
        while tally.messages < messages:
            own = next(seeds)
            tally.add(await talk(target.port, *chosen(own, tokens)), own)

    await asyncio.gather(*(client() for _ in range(clients)))


def simple(model: str) -> Conversation:
    """A second of audio, and its end."""
    start = text(type="start", model=model, rate=16_000, channels=1, format="f32le")
    messages = (start, *[Sent(BINARY, bytes(4 * 1600))] * 10, text(type="end"))
    return Conversation(frames.handshake("/v1/stream", random.Random(0)), messages, "wait")


async def tickets(target: Target) -> list[str]:
    """A resume token of each model; a name that two conversations use at once brings `replaced`."""
    outcomes = [await talk(target.port, simple(model), random.Random(0)) for model in MODELS]
    assert all(outcome.tokens for outcome in outcomes), outcomes
    return [token for outcome in outcomes for token in outcome.tokens]


async def works(target: Target) -> str:
    """What is wrong with a right conversation."""
    outcome = await talk(target.port, simple("toy-delay"), random.Random(0))
    return outcome.fault or ("" if outcome.ended == "normal" else f"a right conversation ended as {outcome.ended}")


async def emptied(target: Target) -> tuple[float, float]:
    """Sessions still inside, and the seconds that it took them to leave."""
    began = time.monotonic()
    while (inside := await asyncio.to_thread(target.sessions)) and time.monotonic() - began < LEAVING_S:
        await asyncio.sleep(0.2)
    return inside, time.monotonic() - began


async def fuzz(target: Target, messages: int, clients: int, seed: int) -> dict[str, Any]:
    """The whole of it; the account."""
    tally, began, tokens = Tally(), time.monotonic(), await tickets(target)
    await crowd(target, tally, messages // 3, clients, seed, tokens)
    warm, series = target.rss(), await asyncio.to_thread(target.series)
    await crowd(target, tally, messages, clients, seed + 1, tokens)
    seconds = time.monotonic() - began
    inside, leaving = await emptied(target)
    after = await works(target)
    checks = {
        "sessions that did not end": inside,
        "a right conversation afterwards": after,
        "memory grew, MiB": round(grown, 1) if (grown := target.rss() - warm) > GROWTH_MB else 0,
        "open files": files if (files := target.files()) > 100 else 0,
        "faults": tally.faults[:20],
    }
    return {
        "messages": tally.messages, "connections": tally.connections, "seconds": round(seconds, 1), "seed": seed,
        "rss_mb": [round(warm, 1), round(target.rss(), 1)], "files": files,
        "series": [series, await asyncio.to_thread(target.series)], "leaving_s": round(leaving, 1),
        "ended": dict(tally.ended.most_common()), "wrong": {name: value for name, value in checks.items() if value},
    }  # fmt: skip


async def replay(target: Target, seed: int) -> dict[str, Any]:
    """One conversation, and what became of it."""
    whole, rng = chosen(seed, await tickets(target))
    for sent in whole.messages:
        print(f"opcode {sent.opcode}, {len(sent.data)} bytes in {sent.pieces}: {sent.data[:100]!r}", file=sys.stderr)
    outcome = await talk(target.port, whole, rng)
    print(f"{whole.opening[:200]!r}, then {whole.leave}: {outcome}", file=sys.stderr)
    return {"ended": {outcome.ended: 1}, "wrong": {"fault": outcome.fault} if outcome.fault else {}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replay", type=int, help="one conversation only")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with started(Path(folder)) as target:
            if asked.replay is None:
                account = asyncio.run(fuzz(target, asked.messages, asked.clients, asked.seed))
            else:
                account = asyncio.run(replay(target, asked.replay))
            account["wrong"] |= {} if target.process.is_running() else {"not running": True}
        if late := target.complaints()[:5]:
            account["wrong"]["complaints in the log"] = late
    for name, count in account["ended"].items():
        print(f"{count:8}  {name}")
    print(json.dumps(account))
    return 1 if account["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())

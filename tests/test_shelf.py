"""Models come when they are asked for, are measured once a machine, and go when others need the room."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import serving

from models import toys
from models.registry import Entry
from models.rehearsal import WARM
from server.costs import KNOWN, costs
from server.engine import Engine
from server.metrics import Metrics
from server.shelf import Shelf
from server.watch import Watch
from streaming.framing import Array
from streaming.wire import ClientError


class Counted(toys.Split):
    """Counts its runs in a list that it shares with its copies."""

    def __init__(self, runs: list[int], **spec: Any) -> None:
        super().__init__(replace(toys.Split().spec, **spec))
        object.__setattr__(self, "runs", runs)

    def run(self, pcm: Array, states: Sequence[Any]) -> tuple[Array, list[Any]]:
        self.runs.append(len(pcm))  # type: ignore[attr-defined]
        return super().run(pcm, states)


class Telling(Counted):
    """Tells who speaks, as far as the shelf knows."""

    def activity(self, state: Any) -> None: ...


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RIVULET_CACHE", str(tmp_path))
    return tmp_path


def shelf(engine: Engine, memory: int, loads: list[str], **sizes: int) -> Shelf:
    def entry(name: str, size: int) -> Entry:
        def load(_: Sequence[str] | None) -> toys.Split:
            loads.append(name)
            return toys.Split(replace(toys.Split().spec, name=name, size=size))

        return replace(serving.entry(toys.Split()), name=name, load=load)

    return Shelf({name: entry(name, size) for name, size in sizes.items()}, engine, Watch(Metrics()), memory)


async def test_weights_that_were_measured_here_are_not_measured_again(engine: Engine, cache: Path) -> None:
    runs: list[int] = []
    first = await costs(Counted(runs, version="one"), engine)
    assert set(runs) == {1, 2, 4, 8, 16, 32}
    runs.clear()
    assert await costs(Counted(runs, version="one"), engine) == first
    assert runs == []
    assert len(json.loads((cache / KNOWN).read_text())) == 1
    await costs(Counted(runs, version="two"), engine)
    assert runs


async def test_every_part_of_a_model_that_tells_people_apart_has_run_before_the_first_session(engine: Engine) -> None:
    runs: list[int] = []
    model = Telling(runs, version="one")
    first = await costs(model, engine)
    runs.clear()
    assert await costs(Telling(runs, version="one"), engine) == first
    windows = WARM * model.spec.rate // model.spec.framing.window
    assert runs == [1] * (windows - 1)  # talk, as long as it takes until voices are compared; none of it measured


@pytest.mark.parametrize("text", ["", "[]", "{", '{"key": {}}'])
async def test_a_spoilt_or_missing_memory_is_measured_over(engine: Engine, cache: Path, text: str) -> None:
    runs: list[int] = []
    await costs(Counted([], version="one"), engine)
    (key,) = json.loads((cache / KNOWN).read_text())
    (cache / KNOWN).write_text(text.replace("key", key))
    assert (await costs(Counted(runs, version="one"), engine)).run(160) > 0
    assert runs


async def test_weights_without_a_version_are_measured_each_time(engine: Engine, cache: Path) -> None:
    await costs(Counted([]), engine)
    assert not (cache / KNOWN).exists()


async def test_many_who_ask_at_once_load_once(engine: Engine) -> None:
    loads: list[str] = []
    here = shelf(engine, 0, loads, a=1)
    models = await asyncio.gather(*(here.get(here.entry("a")) for _ in range(10)))
    assert loads == ["a"]
    assert len({id(model.separator) for model in models}) == 1


async def test_the_least_recently_used_goes_first_and_what_is_in_use_stays(engine: Engine) -> None:
    loads: list[str] = []
    here = shelf(engine, 100, loads, a=40, b=40, c=40, d=90)
    async with here.borrow(here.entry("a")):
        await here.get(here.entry("b"))
        await here.get(here.entry("a"))
        await here.get(here.entry("c"))  # b goes: a was used since, and is in use
        assert sorted(model.name for model in here.loaded()) == ["a", "c"]
        with pytest.raises(ClientError, match="d takes") as refused:
            await here.get(here.entry("d"))
        assert (refused.value.code, refused.value.retry_after_ms) == ("capacity", 5000)
        assert [model.name for model in here.loaded()] == ["a"]
    await here.get(here.entry("d"))
    assert [model.name for model in here.loaded()] == ["d"]
    assert loads == ["a", "b", "c", "d", "d"]

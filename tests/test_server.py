"""The server over a real socket: the whole protocol, and every refusal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
import serving
import streams
import zoo
from serving import converse, start

from models import toys
from streaming import binary, wire

END = json.dumps({"type": "end"})


SLOW = replace(toys.busy(0.5), spec=toys._spec("slow", toys.Split().spec.framing))


@pytest.fixture(scope="module")
def host() -> Iterator[str]:
    with serving.running(serving.toy_registry(SLOW)) as host:
        yield host


def kinds(texts: list[dict[str, Any]], *skip: str) -> list[str]:
    return [text["type"] for text in texts if text["type"] not in ("stats", *skip)]


@pytest.mark.parametrize("name", sorted(set(toys.all_toys()) - {"toy-long"}))
async def test_a_stream_over_a_socket_equals_the_pipeline(host: str, name: str) -> None:
    model = toys.all_toys()[name]
    pcm = zoo.audio(model.spec.channels, 5000)
    parts = [part.T.astype("<f4").tobytes() for part in streams.chop(pcm, [333, 1, 0, 777])]
    stems, texts, code = await converse(host, start(name, channels=model.spec.channels), [*parts, END])
    np.testing.assert_allclose(stems, streams.stems(streams.run(model, [pcm])), atol=1e-6)
    assert kinds(texts) == ["ready", "done"]
    assert texts[-1] == {"type": "done", "samples": 5000}
    assert code == 1000


async def test_ready_says_what_will_come(host: str) -> None:
    _, (ready, *_), _ = await converse(host, start("toy-delay", rate=48_000, format="s16le"), [END])
    assert (ready["stems"], ready["rate"], ready["channels"], ready["format"]) == (["low", "high"], 48_000, 1, "s16le")
    # 128 + 200 samples at 16 kHz, and 16 zero crossings a way of conversion.
    assert 328 * 3 <= ready["latency_samples"] <= 328 * 3 + 2 * 48
    assert ready["latency_ms"] > ready["latency_samples"] / 48


@pytest.mark.parametrize("rate", [8_000, 44_100, 192_000])
async def test_samples_out_equal_samples_in_at_any_rate(host: str, rate: int) -> None:
    pcm = zoo.audio(1, 4001)
    stems, texts, _ = await converse(host, start("toy-split", rate=rate), [pcm.T.astype("<f4").tobytes(), END])
    assert stems is not None
    assert stems.shape == (2, 1, 4001)
    assert texts[-1]["samples"] == 4001


async def test_chosen_stems_derived_stems_and_mono(host: str) -> None:
    pcm = zoo.audio(2, 2000)
    first = start("toy-leaky", channels=2, stems=["no_low", "low"], mono=True)
    stems, (ready, *_), _ = await converse(host, first, [pcm.T.astype("<f4").tobytes(), END])
    low, high = streams.stems(streams.run(toys.Leaky(), [pcm]))
    assert ready["stems"] == ["no_low", "low"]
    np.testing.assert_allclose(stems, np.stack((high, low)).mean(axis=1, keepdims=True), atol=1e-6)


async def test_mono_into_a_stereo_model_and_stereo_into_a_mono_one(host: str) -> None:
    mono, stereo = zoo.audio(1, 1000), zoo.audio(2, 1000)
    stems, _, _ = await converse(host, start("toy-leaky"), [mono.T.astype("<f4").tobytes(), END])
    np.testing.assert_allclose(
        stems, streams.stems(streams.run(toys.Leaky(), [np.repeat(mono, 2, 0)]))[:, :1], atol=1e-6
    )
    stems, _, _ = await converse(host, start("toy-split", channels=2), [stereo.T.astype("<f4").tobytes(), END])
    np.testing.assert_allclose(stems[0], stereo.mean(axis=0, keepdims=True) / 4, atol=1e-6)  # type: ignore[index]


async def test_a_mix_made_here_follows_its_gains(host: str) -> None:
    async with serving.connect(host) as socket:
        await socket.send(start("toy-split", output="mix", gains={"low": 0}))
        assert json.loads(await socket.recv())["stems"] == ["mix"]
        ones = np.ones(1600, "<f4").tobytes()
        await socket.send(ones)
        await socket.send(json.dumps({"type": "mark", "id": "before"}))
        while not isinstance(message := await socket.recv(), str) or json.loads(message)["type"] != "mark":
            if isinstance(message, bytes):
                _, stems = serving.unpack(message)
                np.testing.assert_allclose(stems, 0.75)
        await socket.send(json.dumps({"type": "gains", "gains": {"low": 2}}))
        await socket.send(ones)
        await socket.send(END)
        stems, _ = await serving.read_all(socket, told=1600)
        assert stems is not None
        jumps = np.abs(np.diff(np.concatenate(([0.75], stems[0, 0]))))
        assert jumps.max() <= 0.5 / 320 + 1e-6  # 20 ms from 0 to 2 of a quarter
        assert stems[0, 0, -1] == pytest.approx(1.25)


async def test_marks_come_back_in_order_after_their_audio(host: str) -> None:
    mark = [json.dumps({"type": "mark", "id": id}) for id in ("zero", "a", "b")]
    audio = np.ones(400, "<f4").tobytes()
    stems, texts, _ = await converse(host, start("toy-delay"), [mark[0], audio, mark[1], audio, mark[2], END])
    marks = [(text["id"], text["sample"]) for text in texts if text["type"] == "mark"]
    assert marks == [("zero", 0), ("a", 400), ("b", 800)]
    assert stems is not None


async def test_an_empty_stream_is_done_at_once(host: str) -> None:
    stems, texts, code = await converse(host, start("toy-delay"), [END])
    assert (stems, texts[-1]["samples"], code) == (None, 0, 1000)


async def test_nan_is_told_where_and_not_passed_on(host: str) -> None:
    """The leaky model would never forget it."""
    pcm = np.ones((2, 3000), np.float32)
    pcm[1, 1234] = np.nan
    parts = [part.T.astype("<f4").tobytes() for part in streams.chop(pcm, [1000])]
    stems, texts, code = await converse(host, start("toy-leaky", channels=2), [*parts, END])
    (error,) = [text for text in texts if text["type"] == "error"]
    assert (error["code"], error["fatal"]) == ("not_finite", False)
    assert "got nan at sample 1234, channel 1" in error["message"]
    assert stems is not None
    assert np.isfinite(stems).all()
    assert (stems.shape[2], code) == (3000, 1000)


@pytest.mark.parametrize(
    ("messages", "code", "said"),
    [
        (["hello"], "bad_message", "got text that is not JSON: 'hello'"),
        ([b"1234"], "order", "got 4 bytes of audio before start"),
        ([END], "order", "got end before start"),
        ([start("nope")], "unknown_model", "got model 'nope', this server has toy-split"),
        ([start("../../etc/passwd")], "unknown_model", "this server has"),
        ([start("toy-split"), start("toy-split")], "order", "one connection is one session"),
        ([start("toy-split"), b"123"], "bad_audio", "got 3 bytes, expected a multiple of 4 (1 x f32le)"),
        ([start("toy-split"), bytes(binary.MAX_MESSAGE + 4)], "too_large", f"at most {binary.MAX_MESSAGE}"),
        ([start("slow", live=False), bytes(4), END, b"1234"], "order", "got a message after end"),
        ([start("toy-split", stems=["piano"])], "bad_message", "got stem 'piano', this model has low, high"),
        ([start("toy-split", output="mix", gains={"piano": 1})], "bad_message", "got a gain for 'piano'"),
        ([start("toy-split", gains={"low": 1})], "bad_message", "got gains without output: mix"),
        ([start("toy-split"), '{"type":"gains","gains":{"low":1}}'], "bad_message", "this session has no mix"),
        ([start("toy-split", output="mix"), '{"type":"gains","gains":{"low":9}}'], "bad_message", "expected 0 to 4"),
        (
            [start("toy-long"), bytes(4), *['{"type":"mark","id":"x"}'] * 1001],
            "bad_message",
            "got a mark while 1000 wait for their audio",
        ),
        (
            [start("toy-delay", latency_ms=5)],
            "latency",
            "got latency_ms 5, the smallest possible here for toy-delay is",
        ),
    ],
)
async def test_refusals_name_the_fault_and_close_with_its_code(
    host: str, messages: list[str | bytes], code: str, said: str
) -> None:
    async with serving.connect(host) as socket:
        reading = asyncio.create_task(serving.read_all(socket))
        for message in messages:
            await socket.send(message)
            await asyncio.sleep(0)
        _, texts = await reading
        errors = [text for text in texts if text["type"] == "error"]
        assert errors[-1]["code"] == code
        assert said in errors[-1]["message"]
        assert errors[-1]["fatal"]
        assert socket.close_code == wire.CLOSE_CODES[code]


async def test_the_session_after_the_last_is_refused() -> None:
    with serving.running(serving.toy_registry(), max_sessions=1) as host:
        async with serving.connect(host) as inside:
            await inside.send(start("toy-split"))
            assert json.loads(await inside.recv())["type"] == "ready"
            _, texts, code = await converse(host, start("toy-split"), [])
            assert (texts[0]["code"], code) == ("capacity", 1013)
            await inside.send(END)
            _, texts = await serving.read_all(inside)
            assert texts[-1]["type"] == "done"
        _, texts, code = await converse(host, start("toy-split"), [END])
        assert code == 1000


async def test_a_client_that_says_nothing_is_closed() -> None:
    with serving.running(serving.toy_registry(), idle_timeout_s=0.2) as host:
        _, texts, code = await converse(host, start("toy-split"), [])
        assert (texts[-1]["code"], code) == ("timeout", 4408)
        assert "nothing came for 0.2 s" in texts[-1]["message"]


async def test_a_client_that_does_not_read_is_closed_and_nobody_else_notices() -> None:
    with serving.running(serving.toy_registry(), send_timeout_s=0.5) as host:
        noise = zoo.audio(1, 50_000).T.astype("<f4").tobytes()
        async with serving.connect(host, max_queue=1) as stalled:
            await stalled.send(start("toy-split"))

            async def pour() -> None:
                for _ in range(1000):
                    await stalled.send(noise)

            pouring = asyncio.create_task(pour())
            stems, _, code = await converse(host, start("toy-split"), [noise, END])
            assert stems is not None
            assert (stems.shape[2], code) == (50_000, 1000)
            await asyncio.sleep(1.0)
            await serving.read_all(stalled)
            pouring.cancel()
            await asyncio.gather(pouring, return_exceptions=True)
            assert stalled.close_code in (4408, 1006)


async def test_a_models_failure_is_told_as_ours(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(toys.Split):
        def run(self, pcm: Any, states: Any) -> Any:
            if pcm.shape[2] == 160 and np.abs(pcm).max() > 0.9:  # not while it is measured
                raise ArithmeticError("secret detail")
            return super().run(pcm, states)

    broken = Broken(toys._spec("broken", toys.Split().spec.framing))
    with serving.running(serving.toy_registry(broken)) as host:
        _, texts, code = await converse(host, start("broken"), [np.ones(1600, "<f4").tobytes(), END])
        assert (texts[-1]["code"], code) == ("internal", 1011)
        assert "secret" not in texts[-1]["message"]


async def test_http_beside_the_socket(host: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{host}") as http:
        assert (await http.get("/livez")).json() == {"status": "alive"}
        assert (await http.get("/readyz")).status_code == 200
        models = {model["name"]: model for model in (await http.get("/v1/models")).json()}
        assert set(models) == {*toys.all_toys(), "slow"}
        assert models["toy-leaky"]["channels"] == 2
        assert "rivulet_sessions_opened_total" in (await http.get("/metrics")).text
        assert "/v1/models" in (await http.get("/openapi.json")).json()["paths"]
        page = await http.get("/")
        assert page.headers["cross-origin-opener-policy"] == "same-origin"
        assert page.headers["cross-origin-embedder-policy"] == "require-corp"


async def test_latency_range_is_told_once_measured(host: str) -> None:
    await converse(host, start("toy-long"), [END])
    async with httpx.AsyncClient(base_url=f"http://{host}") as http:
        (long,) = [model for model in (await http.get("/v1/models")).json() if model["name"] == "toy-long"]
    assert 0 < long["latency_ms"]["min"] < long["latency_ms"]["default"]


async def test_an_asked_latency_picks_the_framing(host: str) -> None:
    """Windows of 0.5 to 2 s: the longest whose promise fits."""
    readies = []
    for asked in ({}, {"latency_ms": 400}, {"latency_ms": 3000}):
        stems, (ready, *_), code = await converse(
            host, start("toy-long", **asked), [np.ones(40_000, "<f4").tobytes(), END]
        )
        assert (stems is not None and stems.shape[2], code) == (40_000, 1000)
        readies.append(ready["latency_ms"])
    assert readies[1] <= 400 < readies[0] < readies[2] <= 3000


@pytest.mark.parametrize("live", [True, False])
async def test_fifty_sessions_half_of_them_killed_the_others_as_if_alone(live: bool) -> None:
    with serving.running(serving.toy_registry(), admission="count", max_file_sessions=50) as host:
        await fifty(host, live)


async def fifty(host: str, live: bool) -> None:
    rng = np.random.default_rng(5)
    killed_at = {int(index): int(rng.integers(1, 30)) for index in rng.permutation(50)[:25]}

    async def one(index: int) -> Any:
        name = ("toy-leaky", "toy-delay")[index % 2]
        channels = toys.all_toys()[name].spec.channels
        pcm = zoo.audio(channels, 8000, seed=index)
        parts = streams.chop(pcm, [250 + index])
        async with serving.connect(host) as socket:
            await socket.send(start(name, channels=channels, live=live))
            reading = asyncio.create_task(serving.read_all(socket))
            for number, part in enumerate(parts):
                if killed_at.get(index) == number:
                    socket.transport.abort()
                    reading.cancel()
                    return None
                await socket.send(part.T.astype("<f4").tobytes())
                await asyncio.sleep(0.001)
            await socket.send(END)
            stems, texts = await reading
            assert texts[-1] == {"type": "done", "samples": 8000}
            return stems, pcm, name

    results = await asyncio.gather(*(one(index) for index in range(50)), return_exceptions=True)
    survivors = 0
    for index, result in enumerate(results):
        if index in killed_at:
            continue
        assert not isinstance(result, BaseException), result
        stems, pcm, name = result
        alone = await asyncio.to_thread(streams.run, toys.all_toys()[name], [pcm])
        np.testing.assert_allclose(stems, streams.stems(alone), atol=1e-5)
        survivors += 1
    assert survivors == 25


async def test_capacity_is_told_and_counts_who_is_inside() -> None:
    with serving.running(serving.toy_registry(), preload=("toy-ramp",), max_sessions=5, admission="measured") as host:
        async with httpx.AsyncClient(base_url=f"http://{host}") as http, serving.connect(host) as socket:
            while (await http.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
            empty = (await http.get("/v1/capacity")).json()
            assert (empty["sessions"], empty["files"]) == (0, 0)
            assert 0 < empty["free"]["toy-ramp"] <= 5
            await socket.send(start("toy-ramp"))
            await socket.recv()
            inside = (await http.get("/v1/capacity")).json()
            assert inside["sessions"] == 1
            assert inside["free"]["toy-ramp"] < 5
            assert inside["utilisation"]["short"] > 0
            assert 'rivulet_seats_free{model="toy-ramp"}' in (await http.get("/metrics")).text


async def test_a_model_that_this_machine_is_too_slow_for_is_refused_live_and_given_to_files() -> None:
    """Half a second for 10 ms."""
    with serving.running(serving.toy_registry(SLOW), admission="measured") as host:
        await too_slow(host)


async def too_slow(host: str) -> None:
    _, texts, code = await converse(host, start("slow"), [])
    assert (texts[-1]["code"], code) == ("capacity", 1013)
    assert "slow is too slow on this machine" in texts[-1]["message"]
    assert "retry_after_ms" not in texts[-1]
    stems, texts, code = await converse(host, start("slow", live=False), [np.ones(16_000, "<f4").tobytes(), END])
    assert stems is not None
    assert (stems.shape[2], texts[-1]["samples"], code) == (16_000, 16_000, 1000)


async def test_a_client_far_ahead_of_the_clock_is_not_read_and_a_file_is() -> None:
    minute = [np.ones(16_000, "<f4").tobytes()] * 60
    with serving.running(serving.toy_registry(), max_ahead_s=2) as host:
        stems, _, code = await converse(host, start("toy-split", live=False), [*minute, END])
        assert stems is not None
        assert (stems.shape[2], code) == (60 * 16_000, 1000)
        async with serving.connect(host) as socket:
            await socket.send(start("toy-split"))
            reading = asyncio.create_task(serving.read_all(socket))
            for second in minute[:10]:
                await socket.send(second)
            await asyncio.sleep(1)
            reading.cancel()
            stats = (await asyncio.gather(reading, return_exceptions=True))[0]
            assert isinstance(stats, asyncio.CancelledError)
            (figure,) = [
                line
                for line in (await asyncio.to_thread(httpx.get, f"http://{host}/metrics")).text.splitlines()
                if line.startswith('rivulet_samples_out_total{model="toy-split"}')
            ]
            assert 62 * 16_000 <= float(figure.split()[1]) < 67 * 16_000

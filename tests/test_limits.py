"""Quotas: sessions at a time and audio in an hour, by key."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import serving
from serving import read_all, start

from server.auth import ANONYMOUS, Identity, digest, new_key
from server.limits import Quotas
from streaming.wire import ClientError

STUDIO = Identity("studio", max_sessions=2, audio_minutes_per_hour=1)


def test_sessions_are_counted_by_key_and_given_back() -> None:
    quotas = Quotas()
    with ExitStack() as inside:
        for _ in range(2):
            inside.enter_context(quotas.session(STUDIO))
        with pytest.raises(ClientError, match="2 sessions open, at most 2") as caught, quotas.session(STUDIO):
            pass
        assert caught.value.code == "too_many"
        assert caught.value.retry_after_ms
        with quotas.session(replace(STUDIO, name="other")):
            pass
    with quotas.session(STUDIO), quotas.session(STUDIO):
        pass


def test_a_session_that_fails_is_given_back_too() -> None:
    quotas = Quotas()
    for _ in range(5):
        with pytest.raises(ArithmeticError), quotas.session(STUDIO):
            raise ArithmeticError


def test_tokens_count_with_their_key_and_by_themselves() -> None:
    quotas = Quotas()
    first, second = (replace(STUDIO, token=name, token_sessions=1) for name in ("a", "b"))
    with quotas.session(first):
        with pytest.raises(ClientError, match="this token has 1 sessions open"), quotas.session(first):
            pass
        with quotas.session(second):
            with pytest.raises(ClientError, match="this key has 2 sessions open"), quotas.session(STUDIO):
                pass
    with quotas.session(first):
        pass


def test_those_without_limits_have_none() -> None:
    quotas = Quotas()
    with ExitStack() as inside:
        for _ in range(1000):
            inside.enter_context(quotas.session(ANONYMOUS))
        quotas.charge(ANONYMOUS, 1e9)


def test_an_hour_of_audio_slides() -> None:
    now = 10.0
    quotas = Quotas(lambda: now)
    for _ in range(3000):
        quotas.charge(STUDIO, 0.01)  # 30 s at 10 s
    now = 600.0
    for _ in range(3000):
        quotas.charge(STUDIO, 0.01)  # 30 s at 600 s: the whole minute, and not a packet more
    with pytest.raises(ClientError, match="this key may send 1") as caught:
        quotas.charge(STUDIO, 0.01)
    assert caught.value.code == "too_many"
    assert caught.value.retry_after_ms == 1000 * (3660 - 600)  # when the first 30 s are an hour old, to the minute
    with pytest.raises(ClientError), quotas.session(STUDIO):
        pass
    now = 3661.0
    with quotas.session(STUDIO):
        quotas.charge(STUDIO, 29.9)
        with pytest.raises(ClientError):
            quotas.charge(STUDIO, 1)
    now = 20_000.0
    quotas.charge(STUDIO, 60)


def test_a_minute_is_not_counted_again_however_often_it_is_asked() -> None:
    now = 0.0
    quotas = Quotas(lambda: now)
    for _ in range(10_000):  # two and a half days at nearly the allowed rate
        quotas.charge(STUDIO, 0.34)
        now += 21.3


async def test_a_session_over_the_hours_audio_ends_and_the_next_is_refused() -> None:
    key = new_key()
    keys = [{"name": "studio", "sha256": digest(key), "audio_minutes_per_hour": 2 / 60}]
    second = np.zeros(16_000, "<f4").tobytes()
    with serving.running(serving.toy_registry(), keys=keys) as host:
        answers = []
        for messages in ([second] * 3, []):
            async with serving.connect(host, additional_headers={"Authorization": f"Bearer {key}"}) as socket:
                for message in (start("toy-split"), *messages):
                    await socket.send(message)
                _, texts = await read_all(socket)
                answers.append((texts[0]["type"], texts[-1], socket.close_code))
    (first, error, code), (again, refusal, _) = answers
    assert (first, error["code"], code) == ("ready", "too_many", 4429)
    assert "minutes of audio in the last hour" in error["message"]
    assert (again, refusal["code"]) == ("error", "too_many")
    assert refusal["retry_after_ms"] > 3_000_000

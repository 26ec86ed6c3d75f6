"""The server under test as its HTTP side shows it, and the load that fits one of its models."""

from __future__ import annotations

import argparse
import json
import urllib.request
from typing import Any

from rivulet_client.codec import Start, pack
from rivulet_client.handshake import models_url
from rivulet_client.turns import SpeakerOptions

from clients.bench import sound
from clients.bench.session import Load

LOOP = 16.0  # s of the synthetic sound, played round and round


def get(url: str, token: str | None = None) -> bytes:
    """The body of a GET.

    Raises:
        OSError: nobody answers, or not with 200.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
        body: bytes = answer.read()
        return body


def model_info(url: str, name: str, token: str | None = None) -> dict[str, Any]:
    """The entry of `GET /v1/models` for a model by its name, or by what it is the default for.

    Raises:
        ValueError: there is none; the message lists those that are.
    """
    models: list[dict[str, Any]] = json.loads(get(models_url(url), token))
    for model in models:
        if model["name"] == name or name in _names(model.get("default_for")):
            return model
    raise ValueError(f"got model {name!r}, the server has {', '.join(model['name'] for model in models)}")


def _names(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def asked(options: argparse.Namespace, model: str, rate: int, channels: int) -> Start:
    """The first message of a session, as `clients.bench.options.paced` has it."""
    speakers: SpeakerOptions | None = {"diarizer": options.diarizer} if options.diarizer else None
    return Start(
        model, rate, channels, options.format, latency_ms=options.latency_ms, mode=options.mode, speakers=speakers
    )


def endless(model: str, options: argparse.Namespace) -> Load:
    """Paced sessions of a model at its own rate (or that of `--audio`) and channels, without an end of their own (`count` is 0).

    `options`: those of `clients.bench.options`.
    """
    info = model_info(options.url, model, options.token)
    rate, channels = int(info["rate"]), int(info["channels"])
    if options.audio:
        pcm, rate = sound.load(options.audio)
        pcm = sound.fit(pcm, channels)
    else:
        pcm = sound.synthetic(LOOP, rate, channels)
    packet = max(1, round(rate * options.packet_ms / 1000))
    pieces = sound.packets(pcm, packet, pcm.shape[1])
    start = asked(options, model, rate, channels)
    return Load(
        options.url, start, packet, [pack(part, options.format) for part in pieces], 0, options.token, options.timeout
    )

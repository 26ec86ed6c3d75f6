"""All of WebRTC that an application has: its routes, and what lives as long as they do."""

from __future__ import annotations

from fastapi import FastAPI

from server.house import House
from server.webrtc import ice, libopus, signalling, whep, whip
from server.webrtc.call import Line
from server.webrtc.peers import Peers


def install(app: FastAPI, house: House) -> Peers:
    """Adds `/v1/rtc`, `/whip` and `/whep`. Who is connected is closed by the caller, at the end.

    Raises:
        ValueError: what is missing here for WebRTC.
    """
    try:
        ice.check()
        libopus.load()
    except RuntimeError as error:
        raise ValueError(f"{error}. RIVULET_RTC=false serves without WebRTC") from None
    line = Line(house, Peers(house.settings, house.metrics), ice.Ice(house.settings))
    for part in (signalling, whip, whep):
        app.include_router(part.router(line))
    return line.peers

"""The sound that goes out: encoded once, paced by one clock a session, on any number of tracks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from aiortc import MediaStreamTrack

from server.webrtc import clock
from server.webrtc.encode import Encoders
from server.webrtc.frames import Frame, Frames
from server.webrtc.opus import LOOKAHEAD, MUSIC, Coding
from server.webrtc.track import PacketTrack
from streaming import mix, resample
from streaming.framing import Array

MIX = "mix"
MOST_HELD = 30 * clock.RATE  # of a session that is faster than the clock: then listeners skip to its last second
LAST_S = 1.0  # that the last packets may take to be read


@dataclass(frozen=True)
class Sent:
    """`sample` of the session's timeline, at 48 kHz, is the first of the packet that left last; its RTP timestamp is that
    plus the sender's random origin. Seconds: `encode` of one packet of all tracks, and `behind`, by which a packet leaves
    later than it could have (the cushion), both averaged. `dropped` packets were not read by their track's sender in time."""

    sample: int = 0
    encode: float = 0.0
    behind: float = 0.0
    dropped: int = 0


class Outgoing:
    """One a session; made inside the event loop. Encodes only what somebody listens to.

    Args:
        names: the outputs, in the order of `pcm`'s first axis.
        channels: 1 or 2, of each output.
        coding: `opus.MUSIC`, `opus.SPEECH`, or another.
        rate: of the session, Hz; what is not 48000 is converted (1 ms; streaming/resample.py).
    """

    def __init__(self, names: Sequence[str], channels: int, coding: Coding = MUSIC, rate: int = clock.RATE) -> None:
        self._names, self._channels, self._coding = tuple(names), channels, coding
        self._ratio = resample.Ratio(rate, clock.RATE)
        self._state: resample.ResampleState | None = None
        self._written: int | None = None
        self._fader = mix.Fader(rows := mix.mixdown(self._names, {}), rows)
        self._frames = Frames(len(self._names), channels, coding.frame, LOOKAHEAD)
        self._pacer, self._encoders = clock.Pacer(), Encoders(channels, coding)
        self._tracks: dict[PacketTrack, str] = {}
        self._more, self._idle = asyncio.Event(), asyncio.Event()
        self._sample, self._behind, self._encode, self._dropped = 0, 0.0, 0.0, 0
        self._task = asyncio.create_task(self._run())

    def write(self, start: int, pcm: Array) -> None:
        """`[S, C, T]` float32 from sample `start` of the session on. Never waits; a live session is no faster than the clock,
        and of one that is, listeners skip.

        Raises:
            ValueError: `start` does not follow what was written before, or the shape is another.
        """
        if pcm.shape[:2] != (len(self._names), self._channels):
            raise ValueError(f"got {pcm.shape[:2]} outputs and channels, expected {len(self._names), self._channels}")
        if self._written not in (None, start):
            raise ValueError(f"got samples from {start}, expected {self._written}")
        if self._task.done():
            self._task.result()  # what went wrong there
        state = self._state or self._begin(start)
        self._written = start + pcm.shape[2]
        self._state, pcm = resample.push(self._ratio, state, pcm.reshape(-1, pcm.shape[2]))
        self._put(pcm)

    def _begin(self, start: int) -> resample.ResampleState:
        told = self._ratio.length(start)
        self._frames.begin(told)
        return resample.start(self._ratio, len(self._names) * self._channels, start, told)

    def _put(self, pcm: Array) -> None:
        """`[S*C, T]` at 48 kHz."""
        if not pcm.shape[1]:
            return
        frames, now = self._frames, clock.now()
        before = frames.held
        frames.put(pcm.reshape(len(self._names), self._channels, -1), now)
        if frames.held * self._coding.frame > MOST_HELD:
            frames.skip(frames.held - clock.RATE // self._coding.frame)
        elif frames.held > before:
            self._pacer.ready(frames.start + before * self._coding.frame, now)
        if frames.held:
            self._idle.clear()
            self._more.set()

    def listen(self, name: str) -> MediaStreamTrack:
        """A new track of that output, or of `mix`, the sum of all with their gains; its `stop()` ends it. `recv()` gives
        `av.Packet`s with `pts` the index of their first sample at 48 kHz. One that is not read loses its oldest packets.

        Raises:
            ValueError: there is no such output.
        """
        if name not in (*self._names, MIX):
            raise ValueError(f"got output {name!r}, this session has {', '.join((*self._names, MIX))}")
        track = PacketTrack(self._forget)
        self._tracks[track] = name
        return track

    def _forget(self, track: PacketTrack) -> None:
        del self._tracks[track]

    def gains(self, gains: Mapping[str, float]) -> None:
        """For `mix`: linear gains by name, 1 where not said, faded in without a click.

        Raises:
            ValueError: an output that is not there, or a gain out of range.
        """
        self._fader = self._fader.towards(mix.mixdown(self._names, gains), mix.RAMP_MS * clock.RATE // 1000)

    async def _run(self) -> None:
        while True:
            if not self._frames.held:
                self._idle.set()
                self._more.clear()
                await self._more.wait()
            if (early := self._frames.start + self._pacer.delay(clock.now()) - clock.now()) > 0:
                await asyncio.sleep(early / clock.RATE)
                continue
            frame = self._frames.take()
            outputs = self._outputs(frame, {name for track, name in self._tracks.items() if track.reading})
            packets = await self._encoders.packets(frame, outputs)
            for track, name in self._tracks.items():
                if name in packets and track.reading:
                    track.put(packets[name])
            self._account(frame)

    def _outputs(self, frame: Frame, wanted: set[str]) -> dict[str, Array]:
        outputs = {name: pcm for name, pcm in zip(self._names, frame.pcm, strict=True) if name in wanted}
        if MIX in wanted - set(outputs) or self._fader.left:
            # The fader passes over each sample once; what primes an encoder lies before.
            before = np.einsum("os,sct->oct", self._fader.now, frame.pcm[:, :, :LOOKAHEAD])
            self._fader, mixed = self._fader.apply(frame.pcm[:, :, LOOKAHEAD:])
            outputs.setdefault(MIX, np.concatenate((before, mixed), axis=2)[0])
        return {name: pcm for name, pcm in outputs.items() if name in wanted}

    def _account(self, frame: Frame) -> None:
        self._sample = frame.start
        self._behind += ((clock.now() - frame.ready) / clock.RATE - self._behind) / 16
        self._encode += (self._encoders.seconds - self._encode) / 16

    async def finish(self) -> None:
        """Nothing more is written: returns when the last packet has been taken; the last is padded with silence."""
        if self._state is not None:
            self._put(resample.finish(self._ratio, self._state))
            self._put(np.zeros((len(self._names) * self._channels, self._frames.pad()), np.float32))
            idle = asyncio.ensure_future(self._idle.wait())
            await asyncio.wait((idle, self._task), return_when=asyncio.FIRST_COMPLETED)
            idle.cancel()
        try:
            async with asyncio.timeout(LAST_S):
                while any(track.reading and not track.empty for track in self._tracks):
                    await asyncio.sleep(0.005)
        except TimeoutError:
            pass

    def close(self) -> None:
        """End all tracks now (their `recv` raises MediaStreamError). Safe to call twice."""
        self._task.cancel()
        for track in list(self._tracks):
            track.stop()

    @property
    def sent(self) -> Sent:
        dropped = sum(track.dropped for track in self._tracks)
        return Sent(self._sample, self._encode, self._behind, dropped)

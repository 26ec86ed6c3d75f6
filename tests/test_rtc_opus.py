"""Opus by libopus: time is exact, lost packets come back out of FEC or are invented, and packets say how long they are."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import pytest
import soundfile

from server.webrtc import libopus, packet
from server.webrtc.opus import LOOKAHEAD, MUSIC, RATE, SPEECH, Coding, Decoder, Encoder
from streaming import resample
from streaming.framing import Array

CODINGS = {
    "music": (MUSIC, 2),
    "music at 10 ms": (Coding("audio", 160_000, 480), 2),
    "mono music": (Coding("audio", 96_000), 1),
    "speech": (SPEECH, 1),
    "speech without FEC": (Coding("voip", 40_000), 1),
}
SILK_OFF = 6  # samples, 0.1 ms: its resamplers' delay is a fraction that the declared lookahead rounds


def clicks(channels: int, seconds: float = 2.0) -> Array:
    """Short bursts at odd places, each of another pitch, over a little noise: sound whose place in time is unmistakable."""
    random = np.random.default_rng(1)
    pcm = 0.001 * random.standard_normal((channels, int(seconds * RATE)))
    burst = np.hanning(240)
    for at in range(3000, pcm.shape[1] - 500, 4321):
        pcm[:, at : at + 240] += burst * np.sin(2 * np.pi * random.uniform(300, 3000) * np.arange(240) / RATE)
    return np.asarray(0.5 * pcm, np.float32)


def voice(seconds: float = 3.0) -> Array:
    """A buzz that glides through two formants, with pauses: what SILK takes for speech. `[1, T]`"""
    t = np.arange(int(seconds * RATE)) / RATE
    phase = np.cumsum(110 + 20 * np.sin(2 * np.pi * 0.7 * t)) / RATE
    buzz = sum(np.sin(2 * np.pi * n * phase) / n * (1 / (1 + ((n * 110 - 700) / 300) ** 2) + 0.1) for n in range(1, 30))
    return np.asarray(0.3 * buzz * (np.sin(2 * np.pi * 1.5 * t) > -0.7), np.float32)[None]


def encoded(pcm: Array, coding: Coding) -> list[bytes]:
    """All whole packets of `[C, T]`, by the contract of the encoder: primed, and told the rest."""
    encoder = Encoder(len(pcm), coding)
    encoder.prime(pcm[:, :LOOKAHEAD])
    ends = range(LOOKAHEAD + coding.frame, pcm.shape[1] + 1, coding.frame)
    return [encoder.encode(pcm[:, end - coding.frame : end]) for end in ends]


def lag(sound: Array, heard: Array, most: int = 400) -> int:
    """By how many samples `heard` trails `sound`: where their correlation is greatest."""
    length = min(sound.shape[1], heard.shape[1]) - 2 * most
    scores = [
        float(np.vdot(sound[:, most : most + length], heard[:, most + by : most + by + length]))
        for by in range(-most, most)
    ]
    return int(np.argmax(scores)) - most


def db(sound: Array, heard: Array) -> float:
    length = min(sound.shape[1], heard.shape[1])
    error = sound[:, :length] - heard[:, :length]
    return 10 * float(np.log10(np.sum(sound[:, :length] ** 2) / np.sum(error**2)))


@pytest.mark.parametrize("name", CODINGS)
def test_sample_n_comes_out_at_n(name: str) -> None:
    coding, channels = CODINGS[name]
    sound, decoder = clicks(channels), Decoder(channels)
    assert Encoder(channels, coding).lookahead == LOOKAHEAD
    packets = encoded(sound, coding)
    heard = np.concatenate([decoder.decode(one) for one in packets], axis=1)
    assert heard.shape == (channels, len(packets) * coding.frame)
    assert abs(lag(sound, heard)) <= (0 if coding.application == "audio" else SILK_OFF)


def test_music_is_music_grade() -> None:
    """Noise-free tones of a chord, which 160 kbit/s must carry almost unharmed, in both channels and none into the other."""
    t = np.arange(2 * RATE) / RATE
    sound = np.stack([0.2 * sum(np.sin(2 * np.pi * f * t) for f in tones) for tones in ((220, 277, 330), (440, 9000))])
    packets = encoded(sound.astype(np.float32), MUSIC)
    decoder = Decoder(2)
    heard = np.concatenate([decoder.decode(one) for one in packets], axis=1)
    assert db(sound[:, 4800:], heard[:, 4800:]) > 20
    bits = 8 * sum(map(len, packets)) / (len(packets) * 0.02)
    assert 100_000 < bits < 200_000


def test_fec_brings_a_lost_packet_back_and_concealment_does_not_need_it() -> None:
    sound = voice()
    packets = encoded(sound, SPEECH)
    copies = [k for k in range(1, len(packets)) if packet.carries_previous(packets[k])]
    assert len(copies) > len(packets) / 3
    lost = set(copies[::5])

    def heard(recover: bool) -> Array:
        decoder, parts = Decoder(1), []
        for k, one in enumerate(packets):
            if k + 1 in lost:
                parts.append(decoder.recover(packets[k + 1], 960) if recover else decoder.conceal(960))
            else:
                parts.append(decoder.decode(one))
        return np.concatenate(parts, axis=1)

    decoder = Decoder(1)
    whole = np.concatenate([decoder.decode(one) for one in packets], axis=1)
    recovered, concealed = heard(True), heard(False)
    assert recovered.shape == concealed.shape == whole.shape

    def error(repaired: Array) -> float:
        """In the lost packets alone, in dB against what would have been decoded."""
        at = np.concatenate([np.arange((k - 1) * 960, k * 960) for k in sorted(lost)])
        return db(whole[:, at], repaired[:, at])

    assert error(recovered) > error(concealed) + 3


@pytest.mark.parametrize("samples", [1, 119, 120, 960, 961, 2880, 5760, 5761, 48_000])
def test_any_length_can_be_invented(samples: int) -> None:
    packets, decoder = encoded(voice(1), SPEECH), Decoder(1)
    decoder.decode(packets[10])
    assert decoder.conceal(samples).shape == (1, samples)
    assert decoder.recover(packets[12], samples).shape == (1, samples)
    assert decoder.decode(packets[12]).shape == (1, 960)


def test_an_invented_packet_goes_on_as_the_sound_was() -> None:
    t = np.arange(RATE) / RATE
    packets, decoder = encoded(np.asarray(0.5 * np.sin(2 * np.pi * 440 * t), np.float32)[None], SPEECH), Decoder(1)
    for one in packets[:30]:
        last = decoder.decode(one)
    invented = decoder.conceal(960)
    assert 0.3 < np.sqrt(np.mean(invented**2)) / np.sqrt(np.mean(last**2)) < 1.5


@pytest.mark.parametrize("payload", [b"\xff" * 3, b"\x7f\x7f" * 40, bytes(2000)])
def test_what_is_no_packet_is_refused_and_harms_nothing(payload: bytes) -> None:
    decoder, packets = Decoder(2), encoded(clicks(2, 0.5), MUSIC)
    try:
        decoder.decode(payload)
    except ValueError as error:
        assert str(error).startswith("libopus: ")
    assert decoder.decode(packets[3]).shape == (2, 960)


def test_packets_say_how_long_they_are() -> None:
    """Against libopus' own reading, for every configuration and code."""
    library = ctypes.CDLL(libopus.load()._name)
    for first in range(256):
        for second in (0, 1, 3, 6, 48, 63, 129):
            payload = bytes((first, second)) + bytes(40)
            theirs = library.opus_packet_get_nb_samples(payload, len(payload), RATE)
            assert packet.samples(payload) == max(theirs, 0), (first, second)
    assert packet.samples(b"") == 0
    assert packet.samples(b"\xff") == 0


def test_packets_say_whether_they_carry_their_predecessor() -> None:
    library = ctypes.CDLL(libopus.load()._name)
    if not hasattr(library, "opus_packet_has_lbrr"):
        pytest.skip("this libopus is older than 1.5 and does not tell")
    said = [
        (packet.carries_previous(one), bool(library.opus_packet_has_lbrr(one, len(one))))
        for one in encoded(voice(), SPEECH)
    ]
    assert all(ours == theirs for ours, theirs in said)
    assert {ours for ours, _ in said} == {True, False}
    assert not any(map(packet.carries_previous, encoded(clicks(2, 0.5), MUSIC)))


def test_wrong_shapes_and_codings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(1, 960\) to encode, expected \(2, 960\)"):
        Encoder(2, MUSIC).encode(np.zeros((1, 960), np.float32))
    with pytest.raises(ValueError, match="of 441 samples, expected 480 or 960"):
        Coding("audio", 96_000, 441)
    with pytest.raises(ValueError, match="libopus: invalid argument"):
        Encoder(2, Coding("audio", -7))


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libopus, "_candidates", lambda: ["/nonexistent/libopus.so"])
    libopus.load.cache_clear()
    try:
        with pytest.raises(RuntimeError, match="apt-get install libopus0"):
            Decoder(1)
    finally:
        libopus.load.cache_clear()


def test_real_speech_keeps_its_place(data: Path) -> None:
    path = next(iter(sorted(data.rglob("*.flac")) or sorted(data.rglob("*.wav"))))
    pcm, rate = soundfile.read(path, frames=48_000, dtype="float32", always_2d=True)
    ratio = resample.Ratio(rate, RATE)
    _, sound = resample.push(ratio, resample.start(ratio, 1), np.ascontiguousarray(pcm.T[:1]))
    packets, decoder = encoded(sound, SPEECH), Decoder(1)
    heard = np.concatenate([decoder.decode(one) for one in packets], axis=1)
    assert abs(lag(sound, heard)) <= SILK_OFF

"""What an Opus packet says of itself in its first bytes (RFC 6716, sections 3 and 4.2): its length in time, and whether it
carries its predecessor."""

from __future__ import annotations

LONGEST = 5760  # samples at 48 kHz: 120 ms, the most that a packet may hold
SHORTEST = 120  # 2.5 ms: every length in Opus is a multiple of it

_SILK = (480, 960, 1920, 2880)  # samples a frame, by configuration (RFC 6716, table 2)
_HYBRID = (480, 960)
_CELT = (120, 240, 480, 960)


def samples(payload: bytes) -> int:
    """Samples at 48 kHz that the packet decodes to; 0 for what cannot be an Opus packet."""
    if not payload:
        return 0
    count = (1, 2, 2, _counted(payload))[payload[0] & 3]
    length = _frame(payload[0] >> 3) * count
    return length if length <= LONGEST else 0


def _counted(payload: bytes) -> int:
    return payload[1] & 63 if len(payload) > 1 else 0


def _frame(configuration: int) -> int:
    if configuration < 12:
        return _SILK[configuration & 3]
    if configuration < 16:
        return _HYBRID[configuration & 1]
    return _CELT[configuration & 3]


def carries_previous(payload: bytes) -> bool:
    """Whether it holds low-bit-rate redundancy (LBRR) for the packet before it.

    SILK's header begins with, for each channel, a voice flag a 20 ms frame and then the LBRR flag, all as plain bits
    (section 4.2.3 f.). Only code 0 (one Opus frame) is looked at; a packet of several is taken to carry none.
    """
    if len(payload) < 2 or payload[0] >> 3 >= 16 or payload[0] & 3:
        return False
    voiced = max(_frame(payload[0] >> 3) // 960, 1)
    flags = payload[1] >> (7 - voiced) & 1
    if payload[0] & 4:
        flags |= payload[1] >> (6 - 2 * voiced) & 1
    return bool(flags)

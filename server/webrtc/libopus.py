"""The C library libopus, by ctypes: the calls that a live session needs.

FFmpeg's wrapper, which PyAV offers, has no word for a lost packet (neither concealment nor in-band FEC), and the bindings on
PyPI (opuslib, opuslib-next) ask for a system library all the same. PyAV's wheels carry a libopus; a PyAV
built against the system's FFmpeg leaves that one. A call releases the interpreter's lock.
"""

from __future__ import annotations

import ctypes
from ctypes.util import find_library
from functools import lru_cache
from pathlib import Path
from typing import Any

APPLICATIONS = {"voip": 2048, "audio": 2049}
SET_BITRATE, SET_COMPLEXITY, SET_INBAND_FEC, SET_PACKET_LOSS = 4002, 4010, 4012, 4014
GET_LOOKAHEAD, RESET_STATE = 4027, 4028

_POINTER, _INT, _FLOATS = ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_float)
_SIGNATURES: dict[str, tuple[list[Any], Any]] = {
    "opus_strerror": ([_INT], ctypes.c_char_p),
    "opus_get_version_string": ([], ctypes.c_char_p),
    "opus_decoder_create": ([ctypes.c_int32, _INT, ctypes.POINTER(_INT)], _POINTER),
    "opus_decoder_destroy": ([_POINTER], None),
    "opus_decode_float": ([_POINTER, ctypes.c_char_p, ctypes.c_int32, _FLOATS, _INT, _INT], _INT),
    "opus_encoder_create": ([ctypes.c_int32, _INT, _INT, ctypes.POINTER(_INT)], _POINTER),
    "opus_encoder_destroy": ([_POINTER], None),
    "opus_encode_float": ([_POINTER, _FLOATS, _INT, ctypes.c_char_p, ctypes.c_int32], ctypes.c_int32),
    # Variadic: the arguments beyond these are passed as C passes them.
    "opus_encoder_ctl": ([_POINTER, _INT], _INT),
}


@lru_cache(maxsize=1)
def load() -> Any:
    """The library, its calls typed.

    Raises:
        RuntimeError: there is none, saying how to get it.
    """
    for path in _candidates():
        try:
            library = ctypes.CDLL(path)
            for name, (arguments, result) in _SIGNATURES.items():
                call = getattr(library, name)
                call.argtypes, call.restype = arguments, result
            return library
        except (OSError, AttributeError):
            continue
    raise RuntimeError("WebRTC needs libopus, and neither PyAV nor the system has one: apt-get install libopus0")


def _candidates() -> list[str]:
    import av

    beside = Path(av.__file__).parent
    carried = [*beside.parent.glob("av.libs/libopus*"), *beside.glob(".dylibs/libopus*")]
    system = find_library("opus")
    return [*map(str, carried), *([system] if system else [])]


def checked(code: int) -> int:
    """`code`, unless it is one of libopus' errors.

    Raises:
        ValueError: what libopus says of it.
    """
    if code < 0:
        raise ValueError(f"libopus: {load().opus_strerror(code).decode()}")
    return code

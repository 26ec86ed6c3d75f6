"""Signed values that a server gives out and takes back later, or another server with the same secret does.

`base64url(payload).base64url(mac)`, letters that are legal in a WebSocket sub-protocol. The MAC is HMAC-SHA256 over the kind and
the payload, so that what was signed as one kind never passes for another.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any


class Signer:
    """Of one secret, shared by replicas."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, kind: str, payload: dict[str, Any], now: float, ttl_s: float) -> str:
        """`payload` (JSON), good for `ttl_s` seconds from `now` (wall clock) on."""
        body = _encode(json.dumps(payload | {"exp": round(now + ttl_s, 3)}, separators=(",", ":")).encode())
        return f"{body}.{_encode(self._mac(kind, body))}"

    def verify(self, kind: str, token: str, now: float) -> dict[str, Any]:
        """The payload. Raises ValueError: malformed, forged or expired."""
        body, _, mac = token.partition(".")
        try:
            given = _decode(mac)
        except ValueError:
            raise ValueError("malformed") from None
        if not hmac.compare_digest(given, self._mac(kind, body)):
            raise ValueError("forged, or signed with another secret")
        payload: dict[str, Any] = json.loads(_decode(body))
        if payload.pop("exp") < now:
            raise ValueError("expired")
        return payload

    def _mac(self, kind: str, body: str) -> bytes:
        return hmac.digest(self._secret, f"{kind}.{body}".encode(), hashlib.sha256)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)

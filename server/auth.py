"""Who a client is: an API key, or a short-lived token that a key has minted for a browser.

Keys are 32 random bytes, so one SHA-256 is enough to keep: what makes a slow KDF necessary for passwords is that passwords
can be guessed, and nobody guesses 256 bits. A token is signed and kept nowhere; it dies with its key.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from server.config import Key, Settings, loopback
from server.origin import check_host, check_origin
from server.rate import Rate
from server.signing import Signer
from streaming.wire import ClientError

KIND = "access"
KEY, TOKEN, OFFER = "rk_", "t1.", "token."
LONGEST = 4096  # characters of a key or token
TTL_S = (10.0, 3600.0)


@dataclass(frozen=True)
class Identity:
    """A key, by its name; `token` is the id of the token that speaks for it, "" for the key itself."""

    name: str
    max_sessions: int | None = None
    audio_minutes_per_hour: float | None = None
    models: tuple[str, ...] | None = None
    token: str = ""
    token_sessions: int | None = None
    listen: bool = False

    def may_listen(self, owner: str) -> bool:
        """To a session that this key's name began."""
        return self.listen or self.name == owner

    def may_use(self, model: str) -> bool:
        return self.models is None or model in self.models


ANONYMOUS = Identity("anonymous")


def new_key() -> str:
    return KEY + secrets.token_urlsafe(32)


def digest(key: str) -> str:
    """What the server keeps of a key, hexadecimal."""
    return hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()


class Gate:
    """Decides who a connection is. Of one process: failures are counted here, keys and tokens hold on all replicas."""

    def __init__(self, settings: Settings, signer: Signer, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings, self._signer = settings, signer
        self._connects = Rate(settings.connects_per_minute, clock)
        self._failures = Rate(settings.failed_auth_per_minute, clock)

    def identify(
        self, authorization: str | None, subprotocols: Sequence[str], origin: str | None, host: str, address: str
    ) -> Identity:
        """Whose connection this is, by its headers and the address that it comes from.

        Raises:
            ClientError: `forbidden` for the page or the host, `unauthorized`, `too_many`.
        """
        if not loopback(address):
            _allow(self._connects.hit(address), f"connections from {address}")
        check_host(self._settings, host)
        check_origin(self._settings, origin, host)
        if not self._settings.keys:
            return ANONYMOUS
        _allow(self._failures.wait(address), f"wrong keys or tokens from {address}")
        try:
            return self._known(_credential(authorization, subprotocols))
        except ValueError as error:
            self._failures.hit(address)
            raise ClientError("unauthorized", str(error)) from None

    def mint(
        self, identity: Identity, ttl_s: float, models: Sequence[str] | None = None, max_sessions: int | None = None
    ) -> tuple[str, float]:
        """A token for `ttl_s` seconds and no more than the key may have; and when it expires (Unix time).

        Raises:
            ClientError: `forbidden`, for a token that would mint, or more than the key has.
        """
        _check_mint(identity, ttl_s, models, max_sessions)
        key = next(key for key in self._settings.keys if key.name == identity.name)
        payload: dict[str, Any] = {"key": key.name, "of": key.sha256[:16], "id": secrets.token_urlsafe(9)}
        payload |= {"models": list(models)} if models is not None else {}
        payload |= {"sessions": max_sessions} if max_sessions is not None else {}
        now = time.time()
        return TOKEN + self._signer.sign(KIND, payload, now, ttl_s), now + ttl_s

    def _known(self, credential: str) -> Identity:
        if credential.startswith(TOKEN):
            return self._by_token(credential.removeprefix(TOKEN))
        found: Key | None = None
        given = digest(credential)
        for key in self._settings.keys:  # all of them, so that the time does not tell which
            if hmac.compare_digest(given, key.sha256):
                found = key
        if found is None:
            raise ValueError("got a key that this server does not know")
        return _of(found)

    def _by_token(self, token: str) -> Identity:
        try:
            payload = self._signer.verify(KIND, token, time.time())
        except ValueError as error:
            raise ValueError(f"got a token of no use ({error})") from None
        for key in self._settings.keys:
            if (key.name, key.sha256[:16]) == (payload["key"], payload["of"]):
                return _of(key, payload)
        raise ValueError("got a token of a key that is no more")


def _of(key: Key, token: dict[str, Any] | None = None) -> Identity:
    """What the key may have now, and of that what the token may."""
    token = token or {}
    models = key.models
    if "models" in token:
        models = tuple(name for name in token["models"] if key.models is None or name in key.models)
    return Identity(
        key.name, key.max_sessions, key.audio_minutes_per_hour, models, token.get("id", ""), token.get("sessions"),
        key.listen,
    )  # fmt: skip


def _credential(authorization: str | None, subprotocols: Sequence[str]) -> str:
    """The key or token of a connection. Raises ClientError when there is none: that is no failed guess."""
    if authorization is not None:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            raise ClientError("unauthorized", "got an Authorization that is not `Bearer KEY`")
    else:
        given = next((one.removeprefix(OFFER) for one in subprotocols if one.startswith(OFFER)), "")
        if not given:
            raise ClientError(
                "unauthorized", "got no key: send `Authorization: Bearer KEY`, a page the sub-protocol token.TOKEN"
            )
        if not given.startswith(TOKEN):
            raise ClientError(
                "unauthorized", "got a sub-protocol that is no token: POST /v1/tokens gives one for a key"
            )
    if len(given) > LONGEST:
        raise ValueError(f"got a key of {len(given)} characters, expected at most {LONGEST}")
    return given.strip()


def _check_mint(identity: Identity, ttl_s: float, models: Sequence[str] | None, max_sessions: int | None) -> None:
    if identity.name == ANONYMOUS.name:
        raise ClientError("forbidden", "this server has no keys: everybody may connect, and needs no token")
    if identity.token:
        raise ClientError("forbidden", "got a token, expected an API key: a token cannot mint tokens")
    if not TTL_S[0] <= ttl_s <= TTL_S[1]:
        raise ClientError("bad_message", f"got ttl_s {ttl_s:g}, expected {TTL_S[0]:g} to {TTL_S[1]:g}")
    if models is not None and identity.models is not None and (beyond := set(models) - set(identity.models)):
        raise ClientError("forbidden", f"got model {min(beyond)!r}, this key may use {', '.join(identity.models)}")
    if max_sessions is not None and max_sessions > (identity.max_sessions or max_sessions):
        raise ClientError("forbidden", f"got max_sessions {max_sessions}, this key may have {identity.max_sessions}")


def _allow(wait_s: float, what: str) -> None:
    if wait_s > 0:
        message = f"too many {what} within a minute: try again in {wait_s:.0f} s"
        raise ClientError("too_many", message, retry_after_ms=round(wait_s * 1000))

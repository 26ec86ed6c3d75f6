"""Settings: the command line, over environment variables `RIVULET_*`, over a TOML file, over the defaults."""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

HIDDEN = ("secret", "turn_secret", "sha256")  # where somebody may have put a key, which no message repeats
LEAST_SECRET = 16  # characters, where it signs who gets in


class Key(BaseModel):
    """A client that is let in, and how much of the server it may have. `rivulet keys new NAME` writes one.

    Attributes:
        name: stands in logs and in tokens; what a key uses is counted by it.
        sha256: of the key, in hexadecimal digits. The key itself is nowhere on the server.
        max_sessions: at the same time; None: as many as fit.
        audio_minutes_per_hour: of audio sent, over the last hour; None: no limit.
        models: the names it may ask for; None: all.
        listen: to the sessions of all keys, over WHEP, and not only to its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9._@-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    max_sessions: int | None = Field(default=None, ge=1)
    audio_minutes_per_hour: float | None = Field(default=None, gt=0)
    models: tuple[str, ...] | None = None
    listen: bool = False


class Settings(BaseSettings):
    """How this server runs. docs/operations.md says more of each.

    Attributes:
        config: the TOML file; also `RIVULET_CONFIG`.
        models: further models by name, `RIVULET_MODELS='{"mine": "/models/mine"}'`: a Demucs repository folder, a
            Demucs `.th`, an Asteroid checkpoint, or a folder with `model.safetensors`.
        diarizers: further diarizers by name: a Sortformer's folder or `.nemo` file, or a pyannote separation
            pipeline's folder.
        preload: models loaded before the server says that it is ready.
        max_sessions: more are refused with `capacity`; max_file_sessions: of those that are not live.
        admission: by what the machine can carry, or by count alone.
        idle_timeout_s: a session from which nothing comes for so long is closed.
        send_timeout_s: a client that does not read for so long is closed.
        max_session_s: the longest session; 0: no limit.
        max_ahead_s: how far a live client may run ahead of the clock before it is not read.
        max_messages_per_s: what one client may send before it is not read.
        drain_s: at SIGTERM, how long those inside have to finish.
        resume_s: the life of a token with which a lost session goes on.
        memory_mb: of models; above it the least used go. 0: no limit.
        keys: who gets in. None: everybody.
        secret: signs tokens, the same on all replicas. Empty: one that is kept in the cache, see `server/secret.py`.
        origins: pages that may connect, `https://example.com`, or `*`. None: those of the very host that they ask.
        hosts: names that a client may call this server by. None: any, but on loopback without keys only loopback's.
        insecure: a public address without keys, on purpose.
        tls_cert, tls_key: PEM files.
        trusted_proxies: addresses or networks whose X-Forwarded-For is believed.
        connects_per_minute: from one address that is not loopback; 0: no limit.
        failed_auth_per_minute: wrong keys or tokens from one address; 0: no limit.
        open_metrics: `/metrics` without a key.
        page: the built web page.
        rtc: WebRTC, on UDP ports of all interfaces. False: only what goes over HTTP and WebSockets.
        rtc_ports: the first and the last UDP port; None: any. One a peer.
        rtc_addresses: this machine's, at which peers are met; none: all but loopback.
        rtc_public: the address by which others reach this machine, behind a 1:1 NAT.
        rtc_relay: this server is itself reached by STUN and TURN, which delays every answer.
        rtc_gather_s: that those may take to answer.
        rtc_connect_s: a peer that is not connected so long after its answer is forgotten.
        rtc_unconnected: how many there may be of those.
        rtc_listeners: over WHEP, of all sessions.
        stun, turn: servers for clients, `stun:HOST:PORT`, `turn:HOST:PORT?transport=udp`.
        turn_secret: that the TURN server has too (coturn: static-auth-secret); turn_ttl_s: the life of a login.
    """

    model_config = SettingsConfigDict(env_prefix="RIVULET_", env_ignore_empty=True, extra="forbid")

    config: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=0, le=65535)
    models: dict[str, Path] = {}
    diarizers: dict[str, Path] = {}
    preload: tuple[str, ...] = ("music", "speech")
    max_sessions: int = 64
    max_file_sessions: int = 8
    admission: Literal["measured", "count"] = "measured"
    idle_timeout_s: float = 60.0
    send_timeout_s: float = 10.0
    max_session_s: float = 0
    max_ahead_s: float = 10.0
    max_messages_per_s: float = 2000.0
    drain_s: float = 30.0
    resume_s: float = 120.0
    memory_mb: int = 0
    keys: tuple[Key, ...] = ()
    secret: str = Field("", repr=False)
    origins: tuple[str, ...] | None = None
    hosts: tuple[str, ...] | None = None
    insecure: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    connects_per_minute: NonNegativeInt = 600
    failed_auth_per_minute: NonNegativeInt = 10
    open_metrics: bool = False
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"
    page: Path = Path(__file__).parent.parent / "clients" / "web" / "dist"
    rtc: bool = True
    rtc_ports: tuple[int, int] | None = None
    rtc_addresses: tuple[str, ...] = ()
    rtc_public: str = ""
    rtc_relay: bool = False
    rtc_gather_s: float = Field(1.0, gt=0, le=10)
    rtc_connect_s: float = Field(15.0, gt=0)
    rtc_unconnected: int = Field(32, ge=1)
    rtc_listeners: int = Field(64, ge=0)
    stun: tuple[str, ...] = ()
    turn: tuple[str, ...] = ()
    turn_secret: str = Field("", repr=False)
    turn_ttl_s: float = Field(3600.0, ge=60)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        assert isinstance(init_settings, InitSettingsSource)
        path = init_settings.init_kwargs.get("config") or os.environ.get("RIVULET_CONFIG")
        return init_settings, env_settings, InitSettingsSource(settings_cls, _toml(Path(path)) if path else {})

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError(f"got tls_cert {self.tls_cert} and tls_key {self.tls_key}, expected both or neither")
        for what in ("name", "sha256"):
            values = [getattr(key, what) for key in self.keys]
            if again := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"got two keys with the {what} {min(again)!r}, expected each once")
        if any(key.name == "anonymous" for key in self.keys):
            raise ValueError("got a key named anonymous, which is what those without a key are called")
        self._check_rtc()
        if self.keys and self.secret and len(self.secret) < LEAST_SECRET:
            raise ValueError(f"got a secret of {len(self.secret)} characters, expected at least {LEAST_SECRET}")
        return self

    def _check_rtc(self) -> None:
        low, high = self.rtc_ports or (1, 1)
        if not 1 <= low <= high < 1 << 16:
            raise ValueError(f"got rtc_ports {low} to {high}, expected a first and a last port, 1 to 65535")
        for address in (*self.rtc_addresses, *([self.rtc_public] if self.rtc_public else [])):
            try:
                ipaddress.ip_address(address)
            except ValueError:
                raise ValueError(f"got the address {address!r} for WebRTC, expected numbers: 192.0.2.1") from None
        for schemes, urls in ((("stun:", "stuns:"), self.stun), (("turn:", "turns:"), self.turn)):
            if wrong := [url for url in urls if not url.startswith(schemes)]:
                raise ValueError(f"got the ICE server {wrong[0]!r}, expected {schemes[0]}HOST:PORT")
        if self.turn and not self.turn_secret:
            raise ValueError("got turn without turn_secret, which the TURN server must have too: see docs/webrtc.md")

    @model_validator(mode="after")
    def _guarded(self) -> Settings:
        """Nobody opens a server to the world by a forgotten setting."""
        if not (loopback(self.host) or self.keys or self.insecure):
            raise ValueError(
                f"got host {self.host!r}, which others can reach, and no keys: anybody could use this server. Either make a "
                "key (rivulet keys new NAME), or stay on 127.0.0.1 behind a proxy that asks who comes, or, if everybody "
                "may come, say --insecure"
            )
        return self


def load(**given: Any) -> Settings:
    """The settings, with what is `given` over all others; None is not given.

    Raises:
        ValueError: what is wrong, and where it was said.
    """
    given = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ValueError("; ".join(_complaints(error, given))) from None
    except SettingsError as error:
        raise ValueError(f"{error}: expected JSON, {error.__cause__}") from None


def loopback(host: str) -> bool:
    """Whether only this machine can reach it. A name other than localhost may mean anything tomorrow."""
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
        return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _toml(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"got the configuration {path}, which cannot be read: {error}") from None
    known = set(Settings.model_fields) - {"config"}
    if unknown := set(data) - known:
        raise ValueError(f"{path}: got unknown key {min(unknown)!r}, known are {', '.join(sorted(known))}")
    return data


def _complaints(error: ValidationError, given: dict[str, Any]) -> Iterator[str]:
    for one in error.errors(include_url=False):
        name = str(one["loc"][0]) if one["loc"] else ""
        if not name:
            yield one["msg"].removeprefix("Value error, ")
            continue
        secret = one["loc"][-1] in HIDDEN or one["type"] == "extra_forbidden"
        told = not secret and isinstance(one["input"], str | int | float)
        got = f"got {one['input']!r}, " if told else ""
        yield f"{_origin(name, given)}{'.'.join(map(str, one['loc']))}: {got}{one['msg']}"


def _origin(name: str, given: dict[str, Any]) -> str:
    if name in given:
        return ""
    variable = f"RIVULET_{name.upper()}"
    return f"{variable}: " if variable in os.environ else f"{given.get('config') or os.environ.get('RIVULET_CONFIG')}: "

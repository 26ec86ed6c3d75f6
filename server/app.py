"""The application: routes, and what lives as long as the process."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import HTMLResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models import diarizers
from models.modes import Modes
from models.registry import Entry, Registry, build
from server import gstreamer
from server.access import Caller, caller, protect
from server.admission import Admission
from server.auth import Gate
from server.config import Settings
from server.drain import Drain
from server.engine import Engine
from server.gstreamer import GstDemucsTransport
from server.hexjson import HexTransport
from server.house import House
from server.limits import Quotas
from server.metrics import Metrics
from server.promise import promise, smallest
from server.secret import secret
from server.serve import serve
from server.shelf import Shelf
from server.signing import Signer
from server.tickets import Tickets
from server.watch import Watch, watch_loop
from server.webrtc.routes import install
from server.websocket import WebSocketTransport
from streaming import wire

log = logging.getLogger(__name__)
NO_PAGE = "<h1>Rivulet</h1><p>The page is not built: run <code>make web</code>. The API is described at <a href=/docs>/docs</a>."


class Latency(BaseModel):
    """ms: what a session at the model's own rate is promised when it asks for nothing, and the least that it may ask for."""

    default: float
    min: float


class Model(BaseModel):
    """A model as `/v1/models` tells it; `latency_ms` is null until it has been loaded and measured here."""

    name: str
    sources: list[str]
    rate: int
    channels: int
    licence: str
    present: bool
    interchangeable: bool
    latency_ms: Latency | None
    default_for: list[str]
    modes: list[str]


class Capacity(BaseModel):
    """Who is inside; how many more of each loaded model would be let in now, if they ask for nothing special; and the
    predicted shares of the time that lanes, event loop and all cores are busy with those inside."""

    sessions: int
    files: int
    free: dict[str, int]
    utilisation: dict[str, float]


def create(settings: Settings, registry: Registry | None = None) -> FastAPI:
    """The application. `registry` replaces the models that the settings name, in tests."""

    signer = Signer(secret(settings))
    house, gate = _house(settings, registry, signer), Gate(settings, signer)
    metrics, engine, shelf, drain = house.metrics, house.engine, house.shelf, house.drain
    state = {"status": "loading"}
    if missing := set(settings.preload) - set(shelf.registry):
        engine.close()
        raise ValueError(f"got preload {min(missing)!r}, this server has {', '.join(shelf.registry)}")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async def prepare() -> None:
            try:
                for name in settings.preload:
                    await shelf.get(house.modes.entry(shelf.entry(name), "separate", {}))
                gc.collect()
                gc.freeze()
                state["status"] = "ready"
            except Exception as error:
                log.exception("preloading failed")
                state["status"] = f"failed: {error}"

        work = (prepare(), watch_loop(metrics), house.watch.run(engine))
        tasks = [asyncio.create_task(one) for one in work]
        yield
        if peers is not None:
            await peers.close()
        for task in tasks:
            task.cancel()
        engine.close()

    app = FastAPI(title="Rivulet", summary="Real-time streaming source separation", lifespan=lifespan, openapi_url=None)
    app.add_middleware(Isolated)
    app.state.house = house
    protect(app, gate, settings)
    peers = install(app, house) if settings.rtc else None

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, str]:
        status = "draining" if drain.begun else state["status"]
        response.status_code = 200 if status == "ready" else 503
        return {"status": status}

    @app.get("/metrics", response_class=Response)
    async def scrape(request: Request) -> Response:
        if not settings.open_metrics:
            caller(gate, request)
        _capacity(house)
        for model in shelf.loaded():
            metrics.model_bytes.labels(model.name).set(model.separator.spec.size)
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/models")
    async def models(identity: Caller) -> list[Model]:
        return [_describe(entry, house) for entry in shelf.registry.values() if identity.may_use(entry.name)]

    @app.get("/v1/capacity")
    async def capacity(_: Caller) -> Capacity:
        return _capacity(house)

    @app.websocket("/v1/stream")
    async def stream(websocket: WebSocket) -> None:
        await _run(WebSocketTransport(websocket), wire.PROTOCOL)

    # The stock GStreamer element takes any path of the server's address.
    @app.websocket("/gst-demucs")
    @app.websocket("/")
    async def gst_demucs(websocket: WebSocket) -> None:
        await _run(GstDemucsTransport(websocket), gstreamer.PROTOCOL)

    @app.websocket("/separate")
    async def hex_lines(websocket: WebSocket) -> None:
        await _run(HexTransport(websocket), "")

    async def _run(transport: WebSocketTransport, subprotocol: str) -> None:
        await transport.accept(subprotocol)
        code = wire.CLOSE_CODES["internal"]
        try:
            code = await serve(transport, house, caller(gate, transport.connection))
        except wire.ClientError as error:
            metrics.refusals.labels(error.code).inc()
            await transport.refuse(error)
            code = metrics.closed(error.code, wire.CLOSE_CODES[error.code])
        finally:
            await transport.close(code)

    if settings.page.is_dir():
        app.mount("/", StaticFiles(directory=settings.page, html=True), name="page")
    else:
        app.add_api_route("/", lambda: HTMLResponse(NO_PAGE), include_in_schema=False)
    return app


def _house(settings: Settings, registry: Registry | None, signer: Signer) -> House:
    metrics = Metrics()
    watch = Watch(metrics)
    engine = Engine(watch.ran)
    shelf = Shelf(registry if registry is not None else build(settings.models), engine, watch, settings.memory_mb << 20)
    admission = Admission(
        watch.load, settings.max_sessions, settings.max_file_sessions, settings.admission == "measured"
    )
    tickets = Tickets(signer, settings.resume_s)
    modes = Modes(shelf.registry, diarizers.build(settings.diarizers), diarizers.encoder, diarizers.vad)
    return House(engine, shelf, modes, settings, metrics, watch, admission, tickets, Quotas(), Drain(settings.drain_s))


def _capacity(house: House) -> Capacity:
    """Of the models that are loaded; the others have not been measured."""
    free: dict[str, int] = {}
    for model in house.shelf.loaded():
        try:
            given = promise(model, model.separator.spec.rate)
        except wire.ClientError:  # too slow to be live here
            continue
        assert given.demand is not None
        free[model.name] = 0 if house.drain.begun else house.admission.free(given.demand)
        house.metrics.free.labels(model.name).set(free[model.name])
    now = house.admission.forecast()
    return Capacity(
        sessions=house.admission.inside,
        files=house.admission.files,
        free=free,
        utilisation=dict(now.lanes) | {"loop": now.loop, "machine": now.machine},
    )


def _describe(entry: Entry, house: House) -> Model:
    latency = None
    for model in house.shelf.loaded(entry.name):
        try:
            default, least = promise(model, entry.rate).seconds, smallest(model, entry.rate)
        except wire.ClientError:  # too slow to be live here
            continue
        latency = Latency(default=round(default * 1000, 1), min=round(least * 1000, 1))
    defaults: Mapping[str, list[str]] = {"music": ["file"], "speech": ["microphone"]}
    return Model(
        name=entry.name,
        sources=list(entry.sources),
        rate=entry.rate,
        channels=entry.channels,
        licence=entry.licence,
        present=entry.present(None),
        interchangeable=entry.interchangeable,
        latency_ms=latency,
        default_for=defaults.get(entry.name, []),
        modes=list(house.modes.of(entry)),
    )


class Isolated:
    """Adds the two headers without which a page has no SharedArrayBuffer, to every HTTP answer."""

    HEADERS = ((b"cross-origin-opener-policy", b"same-origin"), (b"cross-origin-embedder-policy", b"require-corp"))

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *self.HEADERS]
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)

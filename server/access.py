"""The gate before HTTP and before sockets: who comes is asked first, and told in the words of either."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection

from server.auth import TTL_S, Gate, Identity
from server.config import Settings
from streaming.wire import ClientError

log = structlog.get_logger(__name__)
STATUS = {
    "unauthorized": 401, "forbidden": 403, "too_many": 429, "too_large": 413, "timeout": 408, "bad_message": 400,
    "unknown_model": 404, "unknown_session": 404, "conflict": 409, "latency": 422, "unsupported": 415,
    "precondition": 412, "restart": 422, "internal": 500,
}  # fmt: skip
LARGEST_BODY = 16 << 10  # bytes
PATIENCE_S = 10.0
RETRY_S = 5  # where nothing better is known


class Wanted(BaseModel):
    """A token for `ttl_s` seconds, for some models and sessions only, or for all that the key may have."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ttl_s: float = Field(300, ge=TTL_S[0], le=TTL_S[1], allow_inf_nan=False)
    models: list[str] | None = Field(None, max_length=100)
    max_sessions: int | None = Field(None, ge=1, le=1_000_000)


class Minted(BaseModel):
    """`expires_at`: Unix time, s."""

    token: str
    expires_at: float


def caller(gate: Gate, connection: HTTPConnection) -> Identity:
    """Who this is, by the headers of a request or of a socket's opening. Raises ClientError."""
    headers, offers = connection.headers, connection.scope.get("subprotocols", ())
    host, address = headers.get("host", ""), connection.client.host if connection.client else ""
    try:
        return gate.identify(headers.get("authorization"), offers, headers.get("origin"), host, address)
    except ClientError as error:
        if error.code != "too_many":  # of which there is no end
            log.info("refused", code=error.code, reason=error.message, address=address)
        raise


async def _identify(request: Request) -> Identity:
    return caller(request.app.state.gate, request)


Caller = Annotated[Identity, Depends(_identify)]
"""The type of an endpoint's parameter that is the caller; an endpoint without is open."""


def protect(app: FastAPI, gate: Gate, settings: Settings) -> None:
    """Refusals in JSON, `POST /v1/tokens`, and the documentation for those who may come in. `app` has none of its own."""
    app.state.gate = gate
    app.add_exception_handler(ClientError, _refuse)
    app.include_router(_tokens(gate))
    app.include_router(_documentation(app))
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST", "PATCH", "DELETE", "OPTIONS"],
            allow_headers=["Authorization", "Content-Type", "If-Match"],
            expose_headers=["Location", "Link", "ETag", "Accept-Post", "Accept-Patch", "Retry-After"],
        )


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, ClientError)
    headers = {}
    status = STATUS.get(error.code, 503)
    if error.code == "unauthorized":
        headers["WWW-Authenticate"] = 'Bearer realm="rivulet"'
    if error.retry_after_ms is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_ms / 1000))
    elif status == 503:
        headers["Retry-After"] = str(RETRY_S)
    return JSONResponse({"error": {"code": error.code, "message": error.message}}, status, headers)


def _tokens(gate: Gate) -> APIRouter:
    router = APIRouter()
    schema = {"requestBody": {"content": {"application/json": {"schema": Wanted.model_json_schema()}}}}

    @router.post("/v1/tokens", status_code=201, openapi_extra=schema)
    async def mint(request: Request, identity: Caller, response: Response) -> Minted:
        """A short-lived token for a browser, which offers it as the sub-protocol `token.TOKEN`. Only for API keys."""
        wanted = await _wanted(request)
        response.headers["Cache-Control"] = "no-store"
        token, expires = gate.mint(identity, wanted.ttl_s, wanted.models, wanted.max_sessions)
        return Minted(token=token, expires_at=expires)

    return router


async def _wanted(request: Request) -> Wanted:
    try:
        return Wanted.model_validate_json(await body(request) or b"{}")
    except ValidationError as error:
        one = error.errors(include_url=False)[0]
        where = ".".join(map(str, one["loc"])) or "the body"
        raise ClientError("bad_message", f"{where}: got {str(one['input'])[:100]!r}, {one['msg']}") from None


async def body(request: Request, largest: int = LARGEST_BODY) -> bytes:
    """Of at most so many bytes: FastAPI would take any, and before it asks who comes."""
    got = b""
    try:
        async with asyncio.timeout(PATIENCE_S):
            async for part in request.stream():
                got += part
                if len(got) > largest:
                    raise ClientError("too_large", f"got a body of over {largest} bytes")
    except TimeoutError:
        raise ClientError("timeout", f"the body did not come within {PATIENCE_S:g} s") from None
    return got


def _documentation(app: FastAPI) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json")
    async def openapi(_: Caller) -> dict[str, Any]:
        return app.openapi()

    @router.get("/docs")
    async def docs(_: Caller) -> Response:
        return get_swagger_ui_html(openapi_url="openapi.json", title=app.title)

    return router

"""Structured logs: one JSON object a line, or coloured text for a person; ours, uvicorn's and everybody's the same way.

Keys, tokens and passwords are redacted twice: values by the name of their field, and then whatever looks like one anywhere
in the finished line, so also in a traceback or in the headers that a library prints.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

HIDDEN = "***"
SECRET_FIELDS = {
    "authorization", "proxy-authorization", "proxy_authorization", "cookie", "sec-websocket-protocol",
    "token", "secret", "turn_secret", "password", "credential", "api_key", "resume",
}  # fmt: skip
CHATTER = {'%s - "WebSocket %s" [accepted]', "connection open", "connection closed"}  # of uvicorn; sessions have lines
PATTERNS = (
    (re.compile(r"\brk_[\w-]{8,}"), f"rk_{HIDDEN}"),
    (re.compile(r"\b(?:t1\.)?[\w-]{20,}\.[\w-]{43}(?![\w-])"), HIDDEN),  # what Signer signs: a token or resume ticket
    (re.compile(r"(?i)\b(bearer|basic) +[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
)


def configure(format: Literal["auto", "json", "console"], level: str, stream: TextIO | None = None) -> None:
    """From here on all logging of this process goes to `stream` (default: standard error). `auto`: text on a terminal."""
    stream = stream or sys.stderr
    person = format == "console" or (format == "auto" and stream.isatty())
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=common, processors=_finish(person, stream.isatty()))
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):
        theirs = logging.getLogger(name)
        theirs.handlers.clear()
        theirs.propagate, theirs.level = True, logging.NOTSET
        theirs.addFilter(_of_use)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *common,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


@contextmanager
def bind_session(session: str, model: str, identity: str) -> Iterator[None]:
    """All that is logged while this is open, by this task or those that it starts, says whose it is."""
    with structlog.contextvars.bound_contextvars(session=session, model=model, identity=identity):
        yield


def redact_fields(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Values whose name says that they are secret, however deep they stand."""
    return {name: value if name == "exc_info" else _redacted(name, value) for name, value in event.items()}


def redact(line: str) -> str:
    """A finished line without what looks like a key, a token or a password."""
    for pattern, instead in PATTERNS:
        line = pattern.sub(instead, line)
    return line


def _redacted(name: object, value: object) -> object:
    """`value`, in the place that is called `name`; headers are pairs, of bytes as ASGI has them."""
    if (name.decode("latin1") if isinstance(name, bytes) else str(name)).lower() in SECRET_FIELDS:
        return HIDDEN
    if isinstance(value, dict):
        return {inner: _redacted(inner, one) for inner, one in value.items()}
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str | bytes):
        return value[0], _redacted(*value)
    return [_redacted("", one) for one in value] if isinstance(value, list | tuple) else value


def _finish(person: bool, colours: bool) -> list[Processor]:
    """From the fields to the line. Tracebacks without local variables: those hold what must not be told."""
    if person:
        render: Processor = structlog.dev.ConsoleRenderer(
            colors=colours, exception_formatter=structlog.dev.plain_traceback
        )
        return [_plain, redact_fields, _line(render)]
    return [
        _plain,
        structlog.processors.format_exc_info,
        redact_fields,
        _line(structlog.processors.JSONRenderer(default=str, ensure_ascii=False)),
    ]


def _plain(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Without what structlog keeps for itself, and without uvicorn's copy of the message in colours."""
    return {name: value for name, value in event.items() if name not in ("_record", "_from_structlog", "color_message")}


def _of_use(record: logging.LogRecord) -> bool:
    return record.msg not in CHATTER


def _line(render: Processor) -> Processor:
    def process(logger: WrappedLogger, method: str, event: EventDict) -> str:
        return redact(str(render(logger, method, event)))

    return process

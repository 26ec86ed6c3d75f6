"""What can go wrong, whose fault it is and what to do. Every error is a `RivuletError` with a stable `code`."""

from __future__ import annotations

CLOSE_CODES = {
    4400: "bad_message",
    4401: "unauthorized",
    4403: "forbidden",
    4404: "unknown_model",
    4408: "timeout",
    4409: "order",
    4410: "replaced",
    4413: "too_large",
    4422: "bad_audio",
    4425: "latency",
    4426: "resume",
    4429: "too_many",
    4503: "model_unavailable",
    1012: "draining",
    1013: "capacity",
    1011: "internal",
}
"""Close code to error code, for the case that the `error` message itself was lost with the connection."""


class RivuletError(Exception):
    """Any failure of a session. `code` stays the same between versions, `message` is for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class Unreachable(RivuletError):
    """No server answered, however often it was tried (`unreachable`). Check the address, or try again later."""

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__("unreachable", message)
        self.retry_after_ms = retry_after_ms


class Refused(RivuletError):
    """The server answered and said no before the session was ready: `unknown_model`, `latency`, `capacity`, ...

    `retry_after_ms`: when the server thinks that it is worth trying again.
    """

    def __init__(
        self, code: str, message: str, close_code: int | None = None, retry_after_ms: int | None = None
    ) -> None:
        super().__init__(code, message)
        self.close_code, self.retry_after_ms = close_code, retry_after_ms


class SessionError(RivuletError):
    """The server ended a running session and said why: `timeout`, `bad_audio`, `internal`, ..."""

    def __init__(self, code: str, message: str, close_code: int | None = None) -> None:
        super().__init__(code, message)
        self.close_code = close_code


class ConnectionLost(RivuletError):
    """The connection ended in mid-stream, and the session could not be resumed (`connection_lost`).

    Attributes:
        sent, received: samples of the timeline that had gone up, and whose stems had come back. Everything in
            `[received, sent)` has to be sent again to be separated.
    """

    def __init__(self, reason: str, sent: int, received: int) -> None:
        timeline = f"{sent} samples were sent, {received} had come back, the stems of {sent - received} are missing"
        super().__init__("connection_lost", f"{reason}; {timeline}")
        self.reason, self.sent, self.received = reason, sent, received


class ProtocolError(RivuletError):
    """The peer broke `stems.v1` (`protocol`): a gap in the timeline, a wrong count, bytes that are no message."""

    def __init__(self, message: str) -> None:
        super().__init__("protocol", message)

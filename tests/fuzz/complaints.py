"""What is wrong in a server's log: JSON lines of its own, and what Python itself writes beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

# uvicorn logs text that is not UTF-8, which it closes with 1007, as if it were its own failure; and fails in earnest, at the
# end of a connection that is over anyway, when such text follows a close frame.
EXPECTED: tuple[Callable[[str, str], bool], ...] = (
    lambda event, _: event.startswith("Invalid UTF-8 sequence received from client"),
    lambda event, trace: event.startswith("Fatal error on transport") and "send_close(1007)" in trace,
)
SEVERE = re.compile(r"^(?:[A-Z]\w+:|Traceback|Fatal|.*Warning: |.*never (?:retrieved|awaited))")


def complaints(text: str) -> list[str]:
    """Errors and warnings of Python which nobody expects; of each kind the first."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if complaint := _complaint(line):
            found.setdefault(_kind(complaint), complaint)
    return list(found.values())


def _complaint(line: str) -> str:
    """What this line complains of; empty if of nothing, or of what is expected."""
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return line if SEVERE.search(line) else ""
    event, trace = str(entry.get("event")), str(entry.get("exception", ""))
    severe = entry.get("level") in ("error", "critical") or entry.get("logger") == "py.warnings"
    return f"{event}\n{trace}" if severe and not any(expected(event, trace) for expected in EXPECTED) else ""


def _kind(complaint: str) -> str:
    """Its last line, without addresses and numbers: the exception."""
    return re.sub(r"0x[0-9a-f]+|\d+", "", complaint.strip().splitlines()[-1])

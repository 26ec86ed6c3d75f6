"""The key or token that goes with every connection, or a function that gives a fresh one each time."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from rivulet_client.errors import RivuletError, Unreachable

Token = str | Callable[[], str | Awaitable[str]]
"""A key or token, or a function (also `async`) that is called at every connection: short-lived tokens expire."""


async def authorization(token: Token | None) -> dict[str, str]:
    """The headers of one connection.

    Raises:
        Unreachable: the function failed; like a server that does not answer, that may pass. Its error is the cause.
    """
    if token is None:
        return {}
    try:
        given = token if isinstance(token, str) else token()
        text = await given if inspect.isawaitable(given) else given
    except RivuletError:
        raise
    except Exception as error:
        raise Unreachable(f"the token function failed: {error!r}") from error
    return {"Authorization": f"Bearer {text}"}

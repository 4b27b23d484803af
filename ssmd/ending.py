"""How tasks of ours end: cancelled for as long as it takes."""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_SECONDS = 0.25
END_SECONDS = 5.0  # what is not over then is left behind: the process ends, or its supervisor ends it


async def end(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel these and wait until they are over, whatever becomes of them.

    Once is not enough: nats-py swallows a cancellation that finds it in a flush (`Client._flush_pending`, 2.16), and so
    does `asyncio.wait_for` before Python 3.12 if its result has just come. The task then goes on as if nothing was.
    """
    pending = set(tasks)
    for task in pending:
        task.add_done_callback(_look)
    for _ in range(round(END_SECONDS / AGAIN_SECONDS)):
        for task in pending:
            task.cancel()
        if not pending:
            return
        _, pending = await asyncio.wait(pending, timeout=AGAIN_SECONDS)


def _look(task: asyncio.Future[Any]) -> None:
    """Its error is nobody's any more: asyncio shall not complain of it."""
    if not task.cancelled():
        task.exception()

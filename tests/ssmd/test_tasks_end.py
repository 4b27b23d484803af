"""A task that loses a cancellation on its way ends all the same."""

import asyncio
import contextlib

import pytest

from ssmd import ending


async def loses(count: int) -> None:
    """As nats-py does in a flush: the first cancellations are swallowed, and it goes on."""
    for _ in range(count):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
    await asyncio.sleep(3600)


async def test_a_lost_cancellation_is_made_again() -> None:
    task = asyncio.create_task(loses(2))
    await asyncio.sleep(0)
    await ending.end([task])
    assert task.cancelled()


async def test_once_is_not_enough() -> None:
    task = asyncio.create_task(loses(1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=0.1)
    assert not task.done()
    await ending.end([task])


async def test_what_never_ends_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(ending, "END_SECONDS", 0.05)
    task = asyncio.create_task(loses(8))
    await asyncio.sleep(0)
    await ending.end([task])
    assert not task.done()
    await ending.end([task])
    assert task.cancelled()


async def test_errors_are_nobodys_any_more(caplog: pytest.LogCaptureFixture) -> None:
    async def fails() -> None:
        raise ValueError("seen by nobody")

    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await ending.end([task])
    assert task.done() and not task.cancelled()
    assert caplog.records == []

"""What a watch in an event loop sees: how long the loop did nothing else, and what the collector did meanwhile."""

import asyncio
import gc
import time
from collections.abc import Iterator

import pytest

from bench import pauses

PAUSE_SECONDS = 0.05


@pytest.fixture
async def watch() -> Iterator[pauses.Watch]:
    before = list(gc.callbacks)
    seen = pauses.Watch()
    gc.collect()
    await asyncio.sleep(0.02)
    seen.begin()
    yield seen
    gc.callbacks[:] = before


async def test_a_pause_is_seen_and_that_it_was_no_work(watch: pauses.Watch) -> None:
    time.sleep(PAUSE_SECONDS)  # as a wait for a disk would hold the loop
    await asyncio.sleep(0.02)
    told = watch.tell()
    assert told.longest > PAUSE_SECONDS * 1e6 * 0.9
    assert told.busy < told.longest / 2


async def test_work_that_pauses_the_loop_is_told_as_work(watch: pauses.Watch) -> None:
    end = time.thread_time() + PAUSE_SECONDS
    while time.thread_time() < end:
        pass
    await asyncio.sleep(0.02)
    told = watch.tell()
    assert told.longest > PAUSE_SECONDS * 1e6 * 0.9
    assert told.busy > PAUSE_SECONDS * 1e6 * 0.9


async def test_collections_are_counted_by_generation(watch: pauses.Watch) -> None:
    gc.collect(0)
    gc.collect()
    told = watch.tell()
    assert told.collections[0] >= 1
    assert told.collections[2] == 1
    assert told.longest_collection <= told.collecting


async def test_a_new_beginning_forgets_what_was(watch: pauses.Watch) -> None:
    gc.collect()
    watch.begin()
    assert watch.tell().collections == [0, 0, 0]

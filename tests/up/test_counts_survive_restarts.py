"""The figures of a run go on when a process starts again from nothing."""

import fakes

from ssmd.up.watch import Total, Watch


def watch_with(connector: dict[str, object], archiver: dict[str, object]) -> Watch:
    watch = Watch("local", 0.0)
    watch.parts = fakes.parts(fakes.Path("diary"))()
    hear(watch, connector, archiver)
    return watch


def hear(watch: Watch, connector: dict[str, object], archiver: dict[str, object]) -> None:
    for name, status in {"connector-kalshi": connector, "archiver-kalshi": archiver}.items():
        watch.hear(name, status)


def day(date: str, frames: int) -> dict[str, object]:
    return {"days": [{"date": date, "frames": frames, "sealed": False}]}


def test_a_count_that_starts_again_goes_on() -> None:
    total = Total()
    assert [total.now(n) for n in (5, 9, 9, 2, 4, 0, 1)] == [5, 9, 9, 11, 13, 13, 14]


async def test_frames_add_up_over_a_restart_of_the_connector() -> None:
    watch = watch_with({"frames": 100}, {})
    assert watch.snapshot(1.0).feeds[0].frames == 100
    hear(watch, {"frames": 7}, {})
    assert watch.snapshot(2.0).feeds[0].frames == 107


async def test_what_is_archived_was_received() -> None:
    watch = watch_with({"frames": 100}, day("2026-11-20", 150))
    assert watch.snapshot(1.0).feeds[0].frames == 150


async def test_archived_counts_from_the_start_of_the_run_over_all_its_days() -> None:
    watch = watch_with({}, day("2026-11-20", 1000))
    archiver = next(part for part in watch.parts if part.kind == "archiver")
    watch.remember_days(archiver)
    assert watch.snapshot(1.0).feeds[0].archived == 0
    hear(watch, {}, day("2026-11-20", 1100))
    assert watch.snapshot(2.0).feeds[0].archived == 100
    hear(watch, {}, day("2026-11-21", 30))  # the archiver lets go of days that are long sealed
    assert watch.snapshot(3.0).feeds[0].archived == 130


async def test_the_rate_is_the_mean_of_the_last_seconds() -> None:
    watch = watch_with({"frames": 0}, {})
    for second in range(20):
        hear(watch, {"frames": 100 * second if second < 10 else 900}, {})
        rate = watch.snapshot(float(second)).feeds[0].frames_per_second
        if 1 <= second < 10:
            assert rate == 100
    assert rate == 0


async def test_a_part_that_does_not_answer_says_nothing() -> None:
    watch = watch_with({"frames": 5, "connected": True}, {})
    watch.forget("connector-kalshi")
    feed = watch.snapshot(1.0).feeds[0]
    assert (feed.connected, feed.frames) == (None, 0)

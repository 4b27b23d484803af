"""A day is waited for until it is sealed, and nothing is made from a damaged one."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import nats
import pytest
from isal import igzip
from temporalio.exceptions import CancelledError
from temporalio.testing import ActivityEnvironment

from activities.archive import Archive
from ssmd import archive, config, jobs, subjects
from ssmd.errors import Permanent, Transient
from tests.lake.archives import DATE, FEED, a_day

DAY = jobs.Day(FEED, DATE)
FLIPS = 60


def of(data: Path, nats_url: str = "nats://127.0.0.1:1") -> Archive:
    return Archive(config.Places(data), "local", nats_url)


def in_background(
    environment: ActivityEnvironment, step: Callable[..., object], *given: object
) -> Callable[[], object]:
    """Run a step in a thread; the returned function waits for its result or error."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(environment.run(step, *given))
        except BaseException as e:
            outcome.append(e)

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> object:
        thread.join(10)
        assert outcome, "the step has not ended"
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    return result


def test_an_unsealed_day_is_waited_for(tmp_path: Path) -> None:
    told: list[jobs.Progress] = []
    environment = ActivityEnvironment()
    environment.on_heartbeat = told.append
    result = in_background(environment, of(tmp_path).await_seal, DAY)
    time.sleep(0.3)
    a_day().write(tmp_path / "archive", sealed=False)
    time.sleep(1.5)
    assert told[-1].doing == f"waiting until {FEED} {DATE} is sealed"
    a_day().write(tmp_path / "archive", sealed=True, revision=3)
    assert result() == 3


def test_waiting_ends_with_its_cancellation(tmp_path: Path) -> None:
    environment = ActivityEnvironment()
    result = in_background(environment, of(tmp_path).await_seal, DAY)
    time.sleep(0.3)
    start = time.monotonic()
    environment.cancel()
    with pytest.raises(CancelledError):
        result()
    assert time.monotonic() - start < 10


def test_waiting_is_handed_on_when_the_worker_stops(tmp_path: Path) -> None:
    environment = ActivityEnvironment()
    result = in_background(environment, of(tmp_path).await_seal, DAY)
    time.sleep(0.3)
    environment.worker_shutdown()
    with pytest.raises(Transient, match="this worker stops"):
        result()


@pytest.mark.parametrize(
    ("day", "sentence"),
    [
        (jobs.Day("kalshi", "2026-02-30"), "no date"),
        (jobs.Day("kalshi", "20260811"), "no date"),
        (jobs.Day("kalshi", "../../etc"), "no date"),
        (jobs.Day("nosuch", DATE), "no feed 'nosuch'"),
    ],
)
def test_a_day_that_cannot_be_is_refused_at_once(tmp_path: Path, day: jobs.Day, sentence: str) -> None:
    with pytest.raises(Permanent, match=sentence):
        ActivityEnvironment().run(of(tmp_path).await_seal, day)


async def test_the_archiver_is_asked_to_seal(tmp_path: Path, nats_server: object) -> None:
    url = str(nats_server.url)  # type: ignore[attr-defined]
    a_day().write(tmp_path / "archive", sealed=False)
    archiver = await nats.connect(url)
    asked: list[object] = []

    async def answer(message: object) -> None:
        asked.append(msgspec.json.decode(message.data))  # type: ignore[attr-defined]
        a_day().write(tmp_path / "archive", sealed=True, revision=2)
        await message.respond(b'{"ok":true,"revision":2,"frames":22}')  # type: ignore[attr-defined]

    await archiver.subscribe(subjects.seal("local", FEED), cb=answer)
    await archiver.flush()
    day = jobs.Day(FEED, DATE, seal=True)
    assert await asyncio.to_thread(ActivityEnvironment().run, of(tmp_path, url).await_seal, day) == 2
    assert asked == [{"date": DATE}]
    await archiver.close()


async def test_an_archiver_that_refuses_ends_the_job_with_its_sentence(tmp_path: Path, nats_server: object) -> None:
    url = str(nats_server.url)  # type: ignore[attr-defined]
    archiver = await nats.connect(url)

    async def answer(message: object) -> None:
        await message.respond(b'{"error":"nothing of that day is archived"}')  # type: ignore[attr-defined]

    await archiver.subscribe(subjects.seal("local", FEED), cb=answer)
    await archiver.flush()
    with pytest.raises(Permanent, match="nothing of that day is archived"):
        await asyncio.to_thread(
            ActivityEnvironment().run, of(tmp_path, url).await_seal, jobs.Day(FEED, DATE, seal=True)
        )
    await archiver.close()


def test_without_an_archiver_the_seal_is_tried_again(tmp_path: Path, nats_server: object) -> None:
    url = str(nats_server.url)  # type: ignore[attr-defined]
    with pytest.raises(Transient, match="no archiver of kalshi answers"):
        ActivityEnvironment().run(of(tmp_path, url).await_seal, jobs.Day(FEED, DATE, seal=True))
    with pytest.raises(Transient, match="cannot ask"):
        ActivityEnvironment().run(of(tmp_path).await_seal, jobs.Day(FEED, DATE, seal=True))


def test_a_whole_day_is_verified(tmp_path: Path) -> None:
    manifest = a_day().write(tmp_path / "archive", per_segment=4)
    sealed = ActivityEnvironment().run(of(tmp_path).verify, DAY)
    assert sealed == jobs.Sealed(FEED, DATE, 1, len(manifest.segments), manifest.frames, [1, 2, 4])


def test_any_flipped_byte_is_found_and_named(tmp_path: Path) -> None:
    manifest = a_day().write(tmp_path / "archive")
    folder = archive.day_folder(tmp_path / "archive", FEED, DATE)
    seed = 20261120
    chance = random.Random(seed)
    for _ in range(FLIPS):
        segment = chance.choice(manifest.segments)
        path = folder / segment.name
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(Permanent, match=segment.name):
            ActivityEnvironment().run(of(tmp_path).verify, DAY)
        path.write_bytes(whole)
    ActivityEnvironment().run(of(tmp_path).verify, DAY)


def test_reading_alone_would_not_find_every_flip(tmp_path: Path) -> None:
    """The control: gzip's own checks pass over a flip in a member's header, and over a whole member that is missing."""
    manifest = a_day().write(tmp_path / "archive")
    path = archive.day_folder(tmp_path / "archive", FEED, DATE) / "orderbook_delta_000.jsonl.gz"
    segment = next(s for s in manifest.segments if s.name == path.name)
    assert segment.members > 1
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[4] ^= 1  # the header's time stamp
    second = whole.index(b"\x1f\x8b\x08", 1)
    for damaged in (bytes(flipped), whole[second:], whole + igzip.compress(b"{}\n")):
        path.write_bytes(damaged)
        igzip.open(path).read()
        with pytest.raises(Permanent, match=path.name):
            ActivityEnvironment().run(of(tmp_path).verify, DAY)


@pytest.mark.parametrize("cut", [1, 8, 100])
def test_a_cut_or_missing_segment_is_found(tmp_path: Path, cut: int) -> None:
    a_day().write(tmp_path / "archive")
    path = archive.day_folder(tmp_path / "archive", FEED, DATE) / "trade_000.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(Permanent, match="trade_000"):
        ActivityEnvironment().run(of(tmp_path).verify, DAY)
    path.unlink()
    with pytest.raises(Permanent, match=r"trade_000.*cannot be read"):
        ActivityEnvironment().run(of(tmp_path).verify, DAY)


def test_a_manifest_of_a_newer_ssmd_is_refused(tmp_path: Path) -> None:
    manifest = a_day().write(tmp_path / "archive")
    newer = msgspec.structs.replace(manifest, format=archive.FORMAT + 1)
    archive.save_manifest(archive.manifest_path(tmp_path / "archive", FEED, DATE), newer)
    with pytest.raises(archive.NewerFormat, match="upgrade ssmd"):
        ActivityEnvironment().run(of(tmp_path).await_seal, DAY)

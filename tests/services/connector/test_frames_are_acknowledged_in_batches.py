"""Frames reach the stream in order and none is skipped, whatever JetStream says to a batch."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from services.connector import publisher as publisher_module
from services.connector.lanes import BatchLane, SingleLane
from services.connector.publisher import Publisher
from ssmd import broker, frames, journal, subjects
from ssmd.telemetry import configure_logging

from .conftest import until

FEED = "fake"


@dataclass
class Bench:
    """A publisher over a journal and a stream of its own."""

    env: str
    nats: Client
    journal: journal.Journal
    publisher: Publisher
    wire: bytes = b'{"type":"trade"}'
    numbers: int = 0
    batches: bool = True
    lanes: set[type] = field(default_factory=set)
    running: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def stream(self) -> str:
        return subjects.stream(self.env, FEED)

    @property
    def taken(self) -> list[str]:
        return [f"{subjects.prefix(self.env, FEED)}.json.>", subjects.ends(self.env, FEED)]

    async def prepare(self) -> bool:
        return await broker.ensure_stream(self.nats, self.stream, self.taken) and self.batches

    def run(self) -> None:
        self.running.append(asyncio.create_task(self.publisher.run(self.nats, self.prepare)))

    def put(self, count: int, pad: int = 0) -> None:
        """Journal and publish frames as capture does."""
        position, first = self.journal.end(), self.numbers + 1
        self.numbers += count
        records = []
        for n in range(first, self.numbers + 1):
            subject = subjects.frame(self.env, FEED, "trade", f"S{n % 7}")
            records.append(journal.Record(subject, frames.message(n, b"c", n, self.wire[:-1] + b" " * pad + b"}")))
        self.journal.append("c", first, self.numbers, [journal.encode(s.encode(), m) for s, m in records])
        self.publisher.put(position, records)
        self.lanes.add(type(self.publisher._lane))

    async def drained(self) -> None:
        async with asyncio.timeout(20):
            await self.publisher.drained()

    async def stored(self) -> list[int]:
        """The numbers of the frames in the stream, in its order."""
        jetstream = self.nats.jetstream()
        last = (await jetstream.stream_info(self.stream)).state.last_seq
        found = [await jetstream.get_msg(self.stream, seq=seq, direct=True) for seq in range(1, last + 1)]
        return [frames.parse(msg.data or b"").n for msg in found]

    async def change_stream(self, **changes: object) -> None:
        jetstream = self.nats.jetstream()
        config = (await jetstream.stream_info(self.stream)).config
        await jetstream.update_stream(config, **changes)


@pytest.fixture
async def bench(tmp_path: Path, nats_server, free_port: Callable[[], int]) -> AsyncIterator[Bench]:  # type: ignore[no-untyped-def]
    log, env = configure_logging(service="connector"), f"b{free_port()}"
    kept = journal.Journal(tmp_path)
    kept.recover()
    publisher = Publisher(kept, subjects.ends(env, FEED), lambda message: False, log)
    nats = await broker.connect(nats_server.url, "bench", log, publisher.resend)
    bench = Bench(env, nats, kept, publisher)
    yield bench
    for task in bench.running:
        task.cancel()
    await asyncio.gather(*bench.running, return_exceptions=True)
    await nats.close()


async def test_frames_are_stored_once_and_in_order(bench: Bench) -> None:
    bench.put(3)
    bench.run()
    for i in range(200):
        bench.put(1 + i % 23)
        await asyncio.sleep(0)
    await bench.drained()
    assert await bench.stored() == list(range(1, bench.numbers + 1))
    assert (bench.publisher.published, bench.publisher.acked) == (bench.numbers, bench.numbers)
    assert BatchLane in bench.lanes and SingleLane not in bench.lanes


async def test_the_last_frames_are_acknowledged_and_subscribers_see_frames_alone(bench: Bench) -> None:
    seen: list[bytes] = []

    async def on_frame(msg: Msg) -> None:
        seen.append(msg.data)

    await bench.nats.subscribe(bench.taken[0], cb=on_frame)
    bench.run()
    for count in (1, 250, 2):
        bench.put(count)
        await bench.drained()
        await asyncio.sleep(0.3)  # an open batch is ended in this time
    assert [frames.parse(data).n for data in seen] == list(range(1, 254))
    assert await bench.stored() == list(range(1, 254))


async def test_what_a_full_stream_refuses_is_stored_when_there_is_room(bench: Bench) -> None:
    bench.run()
    bench.put(50)
    await bench.drained()
    await bench.change_stream(max_bytes=20_000)
    bench.put(500)
    await until(lambda: "maximum bytes" in bench.publisher.last_error)
    assert bench.publisher.waiting_seconds > 0
    assert len(await bench.stored()) < 550
    await bench.change_stream(max_bytes=-1)
    await bench.drained()
    assert await bench.stored() == list(range(1, 551))
    assert (bench.publisher.last_error, bench.publisher.waiting_seconds) == ("", 0.0)


async def test_a_stream_that_takes_no_batches_any_more_gets_single_frames(bench: Bench) -> None:
    bench.run()
    bench.put(50)
    await bench.drained()
    await bench.change_stream(allow_batched=False)
    for _ in range(30):
        bench.put(10)
        await asyncio.sleep(0.01)
    await bench.drained()
    assert await bench.stored() == list(range(1, 351))
    assert bench.lanes >= {BatchLane, SingleLane}


async def test_a_server_without_batches_gets_single_frames(bench: Bench) -> None:
    bench.batches = False
    bench.run()
    for _ in range(50):
        bench.put(100)
        await asyncio.sleep(0)
    await bench.drained()
    assert await bench.stored() == list(range(1, 5_001))
    assert BatchLane not in bench.lanes


async def test_a_stream_that_is_made_anew_gets_what_was_not_acknowledged(bench: Bench) -> None:
    bench.run()
    bench.put(10)
    await bench.drained()
    await bench.nats.jetstream().delete_stream(bench.stream)
    bench.put(20)
    await until(lambda: "no stream" in bench.publisher.last_error)
    await bench.prepare()
    await bench.drained()
    assert await bench.stored() == list(range(11, 31))


@pytest.mark.parametrize(("puts", "frames_each", "pad"), [(10, 1, 100_000), (60, 10, 3_000)])
async def test_bytes_in_flight_are_bounded(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, puts: int, frames_each: int, pad: int
) -> None:
    monkeypatch.setattr(publisher_module, "FLIGHT_BYTES", 300_000)
    monkeypatch.setattr(publisher_module, "ACK_SECONDS", 60.0)
    monkeypatch.setattr(publisher_module, "END_SECONDS", 60.0)  # nothing but the bound may end a batch
    bench.run()
    await until(lambda: bench.publisher._lane is not None)
    bench.put(1)
    await until(lambda: bench.publisher._lane is not None and bench.publisher._lane.room > 1)
    flying = 0
    for _ in range(puts):
        bench.put(frames_each, pad)
        flying = max(flying, bench.publisher._flight_bytes)
    assert 300_000 <= flying < 300_000 + frames_each * (pad + 200)
    await until(lambda: bench.publisher.published == bench.numbers)


async def test_a_frame_larger_than_nats_takes_does_not_stop_the_others(bench: Bench) -> None:
    bench.run()
    await until(lambda: bench.publisher._lane is not None)
    bench.put(5)
    bench.put(1, pad=bench.nats.max_payload)
    bench.put(5)
    await bench.drained()
    assert await bench.stored() == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]


async def test_a_stream_of_an_older_version_is_widened_and_keeps_its_frames(bench: Bench) -> None:
    jetstream = bench.nats.jetstream()
    await jetstream.add_stream(
        StreamConfig(name=bench.stream, subjects=[bench.taken[0], "of.an.operator"], max_msgs=99)
    )
    await jetstream.publish(f"{subjects.prefix(bench.env, FEED)}.json.trade.A", frames.message(1, b"c", 1, bench.wire))
    assert await bench.prepare()
    made = await jetstream.stream_info(bench.stream)
    assert made.config.allow_batched
    assert made.config.subjects == [bench.taken[0], "of.an.operator", bench.taken[1]]
    assert (made.config.max_msgs, made.state.messages) == (99, 1)


def lane(sent: int) -> BatchLane:
    """A batch with so many frames on their way."""
    batch = BatchLane("_INBOX.a.b-1.", "ends")
    record = journal.Record("s", b"{}")
    batch.publish([record])
    batch.answered("", b'{"type":"ack","seq":0,"msgs":10}')
    if sent > 1:
        batch.publish([record] * (sent - 1))
    return batch


# What nats-server 2.15.1 answered in experiments, and what it means for a batch of 30 frames.
@pytest.mark.parametrize(
    ("answers", "acked", "over", "refusal"),
    [
        ([b'{"type":"ack","seq":20,"msgs":10}'], 20, False, ""),
        ([b'{"stream":"T","seq":26,"batch":"b-1","count":30}'], 30, True, ""),
        (
            [b'{"type":"gap","last_seq":23,"seq":25}', b'{"stream":"T","seq":41,"batch":"b-1","count":22}'],
            22, True, "the batch was ended after 22 of 30 frames",
        ),
        (
            [
                b'{"type":"err","seq":21,"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"}}',
                b'{"stream":"T","seq":22,"batch":"b-1","count":20}',
            ],
            20, True, "maximum bytes exceeded",
        ),
        (
            [b'{"error":{"code":400,"err_code":10208,"description":"batch publish ID unknown"},"stream":"T","seq":0}'],
            0, True, "batch publish ID unknown",
        ),
        ([b""], 0, True, "no stream takes this subject"),
    ],
)  # fmt: skip
def test_only_what_is_stored_counts(answers: list[bytes], acked: int, over: bool, refusal: str) -> None:
    batch = lane(30)
    for answer in answers:
        batch.answered("", answer)
    assert (batch.acked, batch.over, batch.refusal) == (acked, over, refusal)


def test_a_batch_that_was_there_before_is_not_ours() -> None:
    """As another process's would be that had a batch of the same name when it died."""
    batch = BatchLane("_INBOX.a.b-1.", "ends")
    batch.publish([journal.Record("s", b"{}")])
    batch.answered("", b'{"type":"gap","last_seq":2,"seq":1}')
    batch.answered("", b'{"stream":"T","seq":33,"batch":"b-1","count":1}')
    assert (batch.acked, batch.over, batch.refusal) == (0, True, "there is another batch of this name")


def test_a_batch_waits_for_its_first_answer_and_for_no_more_than_the_server_allows() -> None:
    batch = BatchLane("_INBOX.a.b-1.", "ends")
    assert batch.room == 1
    batch.publish([journal.Record("s", b"{}")])
    assert (batch.room, batch.end()) == (0, b"")
    batch.answered("", b'{"type":"ack","seq":0,"msgs":1}')
    assert batch.room == 19
    batch.answered("", b'{"type":"ack","seq":1,"msgs":2}')
    assert batch.room == 40


def test_a_hole_in_single_acknowledgements_is_a_refusal() -> None:
    single = SingleLane("_INBOX.a.b-1.")
    single.publish([journal.Record("s", b"{}")] * 5)
    single.answered("_INBOX.a.b-1.1", b'{"stream":"T","seq":1}')
    single.answered("_INBOX.a.b-1.3", b'{"stream":"T","seq":2}')
    assert (single.acked, single.over, single.room) == (1, True, 0)
    assert single.refusal == "no acknowledgement of 1 frames"

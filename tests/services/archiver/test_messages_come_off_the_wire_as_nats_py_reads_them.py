"""The bulk reader sees what nats-py's own parser sees, however the bytes are cut; and a real server is understood."""

import asyncio
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.errors import ProtocolError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.protocol.parser import Parser

from services.archiver import delivery
from services.archiver.delivery import Deliveries, Delivery

SID = 4
CONSUMER = "archiver-1"
Seen = list[tuple[Any, ...]]


class Client:
    """What a parser calls of a client."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.on_error: Callable[[], None] = lambda: None

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        self.seen.append(("other", sid, subject, reply, data, headers))

    async def _process_ping(self) -> None:
        self.seen.append(("ping",))

    async def _process_pong(self) -> None:
        self.seen.append(("pong",))

    async def _process_info(self, info: object) -> None:
        self.seen.append(("info", info))

    async def _process_err(self, error: str) -> None:
        self.seen.append(("error", error))
        self.on_error()


def expected(data: bytes) -> Seen:
    """By nats-py, message by message."""
    seen: Seen = []
    asyncio.run(Parser(Client(seen)).parse(data))
    return [x for event in seen if (x := _ours(event) if event[:2] == ("other", SID) else event) is not None]


def _ours(event: tuple[Any, ...]) -> tuple[Any, ...] | None:
    _, _, subject, reply, data, headers = event
    if headers is not None and not headers.startswith(b"NATS/1.0\r\n"):
        code, _, why = headers.split(b"\r\n")[0].removeprefix(b"NATS/1.0 ").decode().partition(" ")
        return ("ended", int(subject.rpartition(b".")[2]), code, why)
    tokens = reply.decode().split(".")
    consumer, seq, delivered = (tokens[3], *tokens[5:7]) if len(tokens) == 9 else (tokens[5], *tokens[7:9])
    return ("taken", int(delivered), int(seq), subject, data) if consumer == CONSUMER else None


def reader(seen: Seen) -> Deliveries:
    def take(d: Delivery) -> None:
        assert d.last - d.first + 1 == len(d.seqs) == len(d.subjects) == len(d.messages)
        for i, (seq, subject, message) in enumerate(zip(d.seqs, d.subjects, d.messages, strict=True)):
            seen.append(("taken", d.first + i, seq, subject, message))

    deliveries = Deliveries(Client(seen), take, lambda *what: seen.append(("ended", *what)))  # type: ignore[arg-type]
    deliveries.subscribed(SID)
    deliveries.consume(CONSUMER)
    return deliveries


payloads = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([b"", b"\r\n", b"PING\r\n", b"MSG a 4 $JS.ACK.S.archiver-1.1.1.1.1.1 2\r\nhi\r\n", b"x" * 5000]),
)
acks = st.sampled_from([
    b"$JS.ACK.S.%s.1.%d.%d.1786410915579000123.%d",
    b"$JS.ACK._.hash.S.%s.1.%d.%d.1786410915579000123.%d",
    b"$JS.ACK.domain.hash.S.%s.1.%d.%d.1786410915579000123.%d.random",
])  # fmt: skip


@st.composite
def operations(draw: st.DrawFn) -> list[bytes]:
    made, delivered, seq = [], 0, draw(st.integers(0, 10**9))
    kinds = ["plain"] * 6 + ["headed", "former", "status", "answer", "headed answer", "PING", "PONG", "+OK", "INFO"]
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=30)):
        data = draw(payloads)
        seq += draw(st.integers(1, 3))
        head = b"NATS/1.0\r\nA: b\r\n\r\n"
        if kind in {"plain", "headed", "former"}:
            consumer = b"archiver-0" if kind == "former" else CONSUMER.encode()
            delivered += kind != "former"
            ack = draw(acks) % (consumer, seq, delivered, draw(st.integers(0, 99)))
            if kind == "headed":
                sizes = (len(head), len(head) + len(data))
                made.append(b"HMSG env.feed.json.trade.A %d %s %d %d\r\n%s%s\r\n" % (SID, ack, *sizes, head, data))
            else:
                made.append(b"MSG env.feed.json.trade.%%20A %d %s %d\r\n%s\r\n" % (SID, ack, len(data), data))
        elif kind == "status":
            status = draw(st.sampled_from([b"408 Request Timeout", b"409 Consumer Deleted", b"503"]))
            text = b"NATS/1.0 %s\r\nNats-Pending-Messages: 5\r\n\r\n" % status
            made.append(b"HMSG _INBOX.x.17 %d %d %d\r\n%s\r\n" % (SID, len(text), len(text), text))
        elif kind == "answer":
            made.append(b"MSG _INBOX.y 5 %d\r\n%s\r\n" % (len(data), data))
        elif kind == "headed answer":
            made.append(b"HMSG _INBOX.y 5 r %d %d\r\n%s%s\r\n" % (len(head), len(head) + len(data), head, data))
        else:
            made.append(b'INFO {"a":1}\r\n' if kind == "INFO" else kind.encode() + b"\r\n")
    return made


@given(operations(), st.lists(st.integers(0, 1 << 16), max_size=12))
def test_any_bytes_cut_anywhere_are_read_as_by_nats_py(made: list[bytes], cuts: list[int]) -> None:
    data = b"".join(made)
    seen: Seen = []

    async def read() -> None:
        deliveries = reader(seen)
        at = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
        for start, end in pairwise(at):
            await deliveries.parse(data[start:end])

    asyncio.run(read())
    assert seen == expected(data)


async def test_what_a_dead_connection_left_is_not_read_into_the_next() -> None:
    seen: Seen = []
    deliveries = reader(seen)
    await deliveries.parse(b"MSG s 4 $JS.ACK.S.archiver-1.1.7.1.0.0 500\r\nhalf a mess")
    deliveries.reset()
    await deliveries.parse(b"PING\r\nMSG s 4 $JS.ACK.S.archiver-1.1.8.2.0.0 2\r\nhi\r\n")
    assert seen == [("ping",), ("taken", 2, 8, b"s", b"hi")]


async def test_nothing_behind_an_error_that_ends_the_connection_is_read() -> None:
    seen: Seen = []
    deliveries = reader(seen)
    deliveries.nc.on_error = deliveries.reset
    await deliveries.parse(b"-ERR 'Stale Connection'\r\nMSG s 4 $JS.ACK.S.archiver-1.1.8.2.0.0 2\r\nhi\r\nPI")
    await deliveries.parse(b"PONG\r\n")
    assert seen == [("error", "'stale connection'"), ("pong",)]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"MSG s 4 x\r\n",
        b"MSG\r\n",
        b"\r\n",
        b"HMSG s 4 x 2\r\nhi\r\n",
        b"x" * (1 << 17),
    ],
)
async def test_what_is_not_the_protocol_ends_the_connection(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        await reader([]).parse(data)


async def test_a_real_server_delivers_headers_large_messages_and_ends_of_requests(nats_server) -> None:  # type: ignore[no-untyped-def]
    client = await nats.connect(nats_server.url)
    taken: list[tuple[int, bytes, bytes]] = []
    ended: Seen = []
    deliveries = await delivery.subscribe(
        client,
        client.new_inbox(),
        lambda d: taken.extend(zip(d.seqs, d.subjects, d.messages, strict=True)),
        lambda *what: ended.append(what),
    )
    jetstream = client.jetstream()
    await jetstream.add_stream(name="WIRE", subjects=["wire.>"])
    sent = [(f"wire.{i % 3}", b"%d" % i, {"A": "b"} if i % 10 == 0 else None) for i in range(50)]
    sent.append(("wire.large", bytes(3 << 20), None))
    for subject, data, headers in sent:
        await jetstream.publish(subject, data, headers=headers)
    config = ConsumerConfig(
        name=f"c{time.time_ns():x}", deliver_policy=DeliverPolicy.ALL, ack_policy=AckPolicy.NONE, mem_storage=True
    )
    consumer = (await jetstream.add_consumer("WIRE", config)).name
    deliveries.consume(consumer)
    request = b'{"batch":100,"expires":300000000}'
    inbox = client._subs[int(deliveries._sid)].subject.removesuffix(".*")
    await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.WIRE.{consumer}", request, reply=f"{inbox}.12")
    async with asyncio.timeout(10):
        while not ended:
            await asyncio.sleep(0.02)
    assert taken == [(i, subject.encode(), data) for i, (subject, data, _) in enumerate(sent, 1)]
    assert ended == [(12, "408", "Request Timeout")]
    await jetstream.delete_stream("WIRE")  # answered through nats-py's own part
    await client.close()

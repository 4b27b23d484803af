"""A consumer's messages as they come off the wire: all that one read of the socket brought, at once.

nats-py makes an object of each message, puts it on a queue and wakes a task for it, which costs more than archiving
it. This parser stands in the place of the client's own: messages of one subscription it takes out by itself,
everything else (PING, INFO, other subscriptions, errors) it hands on, operation by operation. Connecting, TLS,
credentials, pings and reconnects stay nats-py's.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

CRLF = b"\r\n"
CONTROL_LINE_BYTES = 64 << 10  # an INFO that names a cluster has some KB; more without an end is no NATS
# $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>; a newer form has domain and
# account before the stream, and more at the end.
_ACK = rb"\$JS\.ACK\.(?:[^. ]+\.)+?%s\.[^. ]+\.(\d+)\.(\d+)\.[^. ]+\.(\d+)[^ ]*"
_NOTHING = re.compile(rb"(?!)")


class Delivery(NamedTuple):
    """Messages in the order of the stream; `first` and `last` count what the consumer has delivered, from 1."""

    first: int
    last: int
    pending: int  # how many more the stream has for the consumer
    seqs: list[int]
    subjects: list[bytes]
    messages: list[bytes]


Take = Callable[[Delivery], None]
Ended = Callable[[int, str, str], None]  # number of the request, status, its description


class Deliveries(Parser):
    """The parser of a client's connection; `take` and `ended` may not raise."""

    def __init__(self, client: Client, take: Take, ended: Ended) -> None:
        self._take = take
        self._ended = ended
        self._sid = b""
        self._plain = self._headed = _NOTHING
        super().__init__(client)

    def subscribed(self, sid: int) -> None:
        """From now on this subscription's messages are ours."""
        self._sid = b"%d" % sid

    def consume(self, consumer: str) -> None:
        """Take what this consumer delivers; what another still had on its way is dropped."""
        ack = _ACK % re.escape(consumer.encode())
        self._plain = re.compile(rb"MSG ([^ ]+) %s %s (\d+)\r\n" % (self._sid, ack))
        self._headed = re.compile(rb"HMSG ([^ ]+) %s %s \d+ (\d+)\r\n" % (self._sid, ack))

    def reset(self) -> None:
        super().reset()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._needed_bytes = 0

    async def parse(self, data: bytes = b"") -> None:
        """Work off every whole operation in what was held back and `data`; hold back the rest."""
        held = self._held
        held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes < self._needed_bytes:
            return
        data = b"".join(held)
        position = 0
        while True:
            try:
                position = self._messages(data, position)
                end = _end(data, position)
                if end > len(data):
                    break
                ours = self._is_ours(data, position, end)
            except (ValueError, IndexError):
                raise ProtocolError from None
            if not ours:
                await super().parse(data[position:end])
                if self._held is not held:
                    return  # it was an error, and the connection is another one by now
            position = end
        self._held = [data[position:]]
        self._held_bytes = len(data) - position
        self._needed_bytes = end - position

    def _messages(self, data: bytes, position: int) -> int:
        """Take the consumer's whole messages that begin here; returns where they end."""
        match, size = self._plain.match, len(data)
        seqs: list[int] = []
        subjects: list[bytes] = []
        messages: list[bytes] = []
        first = last = None
        while (found := match(data, position)) is not None:
            subject, seq, length = found.group(1, 2, 5)
            start = found.end()
            end = start + int(length)
            if end + 2 > size:
                break
            seqs.append(int(seq))
            subjects.append(subject)
            messages.append(data[start:end])
            position = end + 2
            first, last = first or found, found
        if first is not None and last is not None:
            self._take(Delivery(int(first[3]), int(last[3]), int(last[4]), seqs, subjects, messages))
        return position

    def _is_ours(self, data: bytes, position: int, end: int) -> bool:
        """Work off an operation of our subscription that is not a plain message of the present consumer."""
        line_end = data.index(CRLF, position)
        words = data[position:line_end].split()
        if words[0] not in {b"MSG", b"HMSG"} or words[2] != self._sid:
            return False
        if words[0] == b"HMSG":
            start = line_end + 2
            body = start + int(words[-2])
            version, _, status = data[start : data.index(CRLF, start)].partition(b" ")
            if version == b"NATS/1.0" and status:
                code, _, why = status.decode(errors="replace").partition(" ")
                self._ended(int(words[1].rpartition(b".")[2]), code, why)
            elif (found := self._headed.match(data, position)) is not None:
                delivered = int(found[3])
                seqs, subjects, messages = [int(found[2])], [found[1]], [data[body : end - 2]]
                self._take(Delivery(delivered, delivered, int(found[4]), seqs, subjects, messages))
        return True


def _end(data: bytes, position: int) -> int:
    """Where the operation that begins here ends, as far as can be told: beyond `data` if it is not whole."""
    line_end = data.find(CRLF, position)
    if line_end < 0:
        if len(data) - position > CONTROL_LINE_BYTES:
            raise ProtocolError
        return len(data) + 1
    words = data[position:line_end].split()
    return line_end + 2 + (int(words[-1]) + 2 if words[0] in {b"MSG", b"HMSG"} else 0)


async def subscribe(client: Client, inbox: str, take: Take, ended: Ended) -> Deliveries:
    """Subscribe to `inbox`.*, to be called before the client is used for anything else."""
    before = client._ps
    assert isinstance(before, Parser), "another nats-py than this was written for"
    deliveries = client._ps = Deliveries(client, take, ended)
    await deliveries.parse(bytes(before.buf))
    subscription = await client.subscribe(f"{inbox}.*", cb=_never)
    deliveries.subscribed(subscription._id)
    return deliveries


async def _never(msg: Msg) -> None:
    """The parser takes every message of this subscription."""

"""How frames reach JetStream: in fast-ingest batches, or one by one on servers and streams without them.

A lane is a row of publishes in order, acknowledged in order, from its first one on. Once something in it was refused
it is over, and what it had not acknowledged goes out again in a new lane: a frame may be stored twice, never skipped.
No I/O here: lanes make NATS protocol and read answers.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from ssmd.journal import Record

WINDOW = 2048  # unacknowledged publishes: covers 20 ms of round trip at 100k/s
FLOW = 100  # frames between two acknowledgements of a batch; the server may choose fewer
FLOWS_MAX = 20  # that many acknowledgements may be outstanding: WINDOW, unless the server slows us down

# What a publish into a batch does (the last token but one of its reply subject).
_START, _APPEND, _END = 0, 1, 3

_BATCHES_DISABLED = 10205  # err_code: the stream's allow_batched was taken away


class Answer(msgspec.Struct):
    """Whatever JetStream answers to a publish.

    In a batch, `type` is `ack` (stored up to `seq`), `gap` or `err` (the end follows); without a type it is the
    end of the batch after `count` frames. A publish of its own is answered by a stream `seq`, and no `batch`.
    """

    type: str = ""
    seq: int = 0
    msgs: int = 0
    batch: str = ""
    count: int = 0
    error: dict[str, object] | None = None


_decode = msgspec.json.Decoder(Answer).decode
_NO_STREAM = Answer(error={"description": "no stream takes this subject"})


class Lane(Protocol):
    inbox: str  # what all its reply subjects start with
    sent: int
    acked: int  # the first so many are stored
    over: bool
    refusal: str  # why it is over, in JetStream's words; empty if it was ended by us, or is not over
    unsupported: bool  # the server does not know this kind of lane

    @property
    def room(self) -> int:
        """How many more frames it takes now."""
        ...

    def publish(self, records: Sequence[Record]) -> bytes:
        """The protocol that publishes records, no more than there is room for."""
        ...

    def end(self) -> bytes:
        """The protocol that asks for the end, so that everything is acknowledged; empty if there is nothing to ask."""
        ...

    @property
    def ending(self) -> bool:
        """An end was asked for and is not answered yet."""
        ...

    def answered(self, reply: str, data: bytes) -> None:
        """Take what arrived on one of our reply subjects."""
        ...


class BatchLane:
    """A fast-ingest batch (nats-server 2.14, ADR-50), gap mode `fail`.

    The server acknowledges every `FLOW` frames, so the last ones are acknowledged by ending the batch alone. It
    forgets a batch that was idle for 10 s, so whoever uses it ends it long before. The end is a message of its own
    that the stream does not store but core subscribers would see: it goes to the subject `ends`.
    """

    def __init__(self, inbox: str, ends: str) -> None:
        self.inbox = inbox
        self._prefix = f"{inbox}{FLOW}.fail.".encode()
        self._ends = ends
        self._flow = 0  # 0: the server has not said yet that it takes batches
        self._trouble = ""
        self.sent = 0
        self.acked = 0
        self.ending = False
        self.over = False
        self.refusal = ""
        self.unsupported = False

    @property
    def room(self) -> int:
        if self.ending or self.over:
            return 0
        if not self._flow:
            return 1 - self.sent
        return min(WINDOW, self._flow * FLOWS_MAX) - self.sent + self.acked

    def publish(self, records: Sequence[Record]) -> bytes:
        prefix = self._prefix
        first = self.sent + 1
        self.sent += len(records)
        if first == 1:
            (record,) = records
            return _publish(record, b"%s1.%d.$FI" % (prefix, _START))
        return b"".join(
            [
                b"PUB %s %s%d.1.$FI %d\r\n%s\r\n" % (subject.encode(), prefix, n, len(message), message)
                for n, (subject, message) in enumerate(records, first)
            ]
        )

    def end(self) -> bytes:
        if not self._flow or self.ending or self.over:
            return b""
        self.ending = True
        return _publish(Record(self._ends, b""), b"%s%d.%d.$FI" % (self._prefix, self.sent + 1, _END))

    def answered(self, reply: str, data: bytes) -> None:
        answer = _decode(data) if data else _NO_STREAM
        if answer.batch and not self._flow:  # its end comes before its beginning: not ours
            self.over = True
            self.refusal = "there is another batch of this name"
        elif answer.type == "ack":
            self._flow = answer.msgs
            self.acked = max(self.acked, answer.seq)
        elif answer.type == "err":
            self._trouble = _text(answer)
        elif not answer.type:
            self._ended(answer)

    def _ended(self, answer: Answer) -> None:
        self.over = True
        if answer.error is not None:
            self.refusal = self._trouble or _text(answer)
            self.unsupported = answer.error.get("err_code") == _BATCHES_DISABLED
        elif not answer.batch:  # an older server: it has stored the frame, and knows nothing of a batch
            self.refusal = "fast ingest is unknown to this server"
            self.unsupported = True
        else:
            self.acked = max(self.acked, answer.count)
            if self.acked < self.sent:
                self.refusal = self._trouble or f"the batch was ended after {answer.count} of {self.sent} frames"


class SingleLane:
    """Publishes that are acknowledged one by one."""

    def __init__(self, inbox: str) -> None:
        self.inbox = inbox
        self._prefix = inbox.encode()
        self.sent = 0
        self.acked = 0
        self.ending = False
        self.over = False
        self.refusal = ""
        self.unsupported = False

    @property
    def room(self) -> int:
        return 0 if self.over else WINDOW - self.sent + self.acked

    def publish(self, records: Sequence[Record]) -> bytes:
        first = self.sent + 1
        self.sent += len(records)
        return b"".join([_publish(record, b"%s%d" % (self._prefix, n)) for n, record in enumerate(records, first)])

    def end(self) -> bytes:
        return b""

    def answered(self, reply: str, data: bytes) -> None:
        if self.over:
            return
        answer = _decode(data) if data else _NO_STREAM
        n = int(reply.rpartition(".")[2])
        if answer.error is None and n == self.acked + 1:
            self.acked = n
            return
        self.over = True
        self.refusal = (
            _text(answer) if answer.error is not None else f"no acknowledgement of {n - self.acked - 1} frames"
        )


def _publish(record: Record, reply: bytes) -> bytes:
    message = record.message
    return b"PUB %s %s %d\r\n%s\r\n" % (record.subject.encode(), reply, len(message), message)


def _text(answer: Answer) -> str:
    return str((answer.error or {}).get("description"))

"""python -m bench.blaster CORPUS: a WebSocket server that is never what one waits for.

It takes one client at a time, answers the handshake and pings, sends the corpus's opening, and then, for each line
`COUNT RATE` on stdin, so many frames: as fast as the socket takes them where RATE is 0 (they are framed beforehand),
else so many a second, each with `sent_ns`, the monotonic clock right before it was handed to the kernel. A receiver
that stalls does not hold it up: the kernel's buffers take some tenths of a second of 20,000 frames/s.

On stdout: `port N`, `connected`, and for each order `sent FIRST_NS LAST_NS` (of the monotonic clock).
"""

import base64
import ctypes
import hashlib
import itertools
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench import corpus

SEND_BYTES = 1 << 20
BURST = 256  # frames at a time when late: the receiver shall not be blamed for our own stall
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 4.2.2
_PR_SET_TIMERSLACK = 29


def main() -> None:
    given = corpus.load(Path(sys.argv[1]))
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)  # sleeps end on time, not 50 µs later
    with socket.create_server(("127.0.0.1", 0)) as server:
        say(f"port {server.getsockname()[1]}")
        wanted = Orders()
        while True:
            client, _ = server.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if shake_hands(client):
                serve(client, given, wanted)
            client.close()


def say(text: str) -> None:
    print(text, flush=True)


class Orders:
    """What stdin asks for, whoever is connected; the process ends with it."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, float]] = []
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in sys.stdin:
            count, rate = line.split()
            with self._news:
                self._lines.append((int(count), float(rate)))
                self._news.notify_all()
        os._exit(0)

    def next(self, gone: threading.Event) -> tuple[int, float] | None:
        """The next order; None once the client has gone."""
        with self._news:
            while not self._lines and not gone.is_set():
                self._news.wait(0.05)
            return None if gone.is_set() else self._lines.pop(0)


def serve(client: socket.socket, given: corpus.Corpus, wanted: Orders) -> None:
    lock, gone = threading.Lock(), threading.Event()
    threading.Thread(target=answer_pings, args=(client, lock, gone), daemon=True).start()
    wires = given.wires()
    try:
        client.sendall(b"".join(map(framed, given.opening)))
        say("connected")
        while (order := wanted.next(gone)) is not None:
            count, rate = order
            told = paced(client, lock, wires, count, rate) if rate else at_once(client, lock, wires, count)
            say("sent {} {}".format(*told))
    except OSError:
        gone.set()


def at_once(client: socket.socket, lock: threading.Lock, wires: Iterator[bytes], count: int) -> tuple[int, int]:
    pieces = []
    size = 0
    piece: list[bytes] = []
    for wire in itertools.islice(wires, count):
        piece.append(framed(wire))
        size += len(piece[-1])
        if size >= SEND_BYTES:
            pieces.append(b"".join(piece))
            piece, size = [], 0
    pieces.append(b"".join(piece))
    first = time.monotonic_ns()
    for data in pieces:
        with lock:
            client.sendall(data)
    return first, time.monotonic_ns()


def paced(
    client: socket.socket, lock: threading.Lock, wires: Iterator[bytes], count: int, rate: float
) -> tuple[int, int]:
    """Each frame when it is due."""
    clock = time.monotonic_ns
    first = clock()
    sent = 0
    while sent < count:
        now = clock()
        due = min(count, int((now - first) * rate / 1e9) + 1, sent + BURST)
        if due <= sent:
            time.sleep(max(0.0, (first + sent * 1e9 / rate - now) / 1e9))
            continue
        data = []
        for wire in itertools.islice(wires, due - sent):
            data.append(framed(b'%b,"sent_ns":%d}' % (wire[:-1], clock())))
        with lock:
            client.sendall(b"".join(data))
        sent = due
    return first, clock()


# --------------------------------------------------------------------------------------------------- RFC 6455


def framed(wire: bytes, opcode: int = 1) -> bytes:
    """An unmasked frame, as servers send it."""
    size = len(wire)
    if size < 126:
        return b"%c%c%b" % (0x80 | opcode, size, wire)
    if size < 1 << 16:
        return b"%c\x7e%b%b" % (0x80 | opcode, size.to_bytes(2, "big"), wire)
    return b"%c\x7f%b%b" % (0x80 | opcode, size.to_bytes(8, "big"), wire)


def shake_hands(client: socket.socket) -> bool:
    """Whether it became a WebSocket; anything else is told that there is nothing."""
    request = b""
    while b"\r\n\r\n" not in request:
        data = client.recv(1 << 16)
        if not data:
            return False
        request += data
    head = {}
    for line in request.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        head[name.strip().lower()] = value.strip()
    key = head.get(b"sec-websocket-key")
    if key is None:
        client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return False
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
    )
    return True


def answer_pings(client: socket.socket, lock: threading.Lock, gone: threading.Event) -> None:
    """Read what the client sends; all but pings and its good-bye is of no interest."""
    data = b""
    try:
        while True:
            while (found := unmasked(data)) is not None:
                opcode, body, data = found
                if opcode == 9:
                    with lock:
                        client.sendall(framed(body, opcode=10))
                elif opcode == 8:
                    with lock:
                        client.sendall(framed(body, opcode=8))
                    return
            more = client.recv(1 << 16)
            if not more:
                return
            data += more
    except OSError:
        pass
    finally:
        gone.set()


def unmasked(data: bytes) -> tuple[int, bytes, bytes] | None:
    """The first frame's opcode and body, and what follows it; None if it is not whole yet."""
    if len(data) < 2:
        return None
    size, at = data[1] & 0x7F, 2
    if size >= 126:
        wide = 2 if size == 126 else 8
        size, at = int.from_bytes(data[2 : 2 + wide], "big"), 2 + wide
    end = at + 4 + size
    if len(data) < end:
        return None
    mask = data[at : at + 4]
    body = bytes(b ^ mask[i & 3] for i, b in enumerate(data[at + 4 : end]))
    return data[0] & 0x0F, body, data[end:]


if __name__ == "__main__":
    main()

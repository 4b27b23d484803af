"""However much waits in a socket, it is read in pieces between which everything else has its turn; with TLS too."""

import asyncio
import base64
import datetime
import hashlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from services.connector.link import READ_BYTES, Link, Target
from ssmd.clock import SystemClock

FRAMES = 20_000
WIRE = b"x" * 200


def certificate(folder: Path) -> ssl.SSLContext:
    """A server's context, its own authority: `folder`/authority.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([]), datetime.datetime.now(datetime.UTC)
    built = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    built = built.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = built.add_extension(names, critical=True).sign(key, hashes.SHA256())
    public = folder / "authority.pem"
    public.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private = folder / "key.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context


def flood(listening: socket.socket, tls: ssl.SSLContext | None) -> None:
    """A venue that sends all it has at once, and the end."""
    connection, _ = listening.accept()
    if tls is not None:
        connection = tls.wrap_socket(connection, server_side=True)
    with connection:
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        key = next(line.split(b": ")[1] for line in request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key"))
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        frame = b"\x81\x7e" + len(WIRE).to_bytes(2) + WIRE
        connection.sendall(frame * FRAMES + b"\x88\x02\x03\xe8")
        connection.recv(4096)


@contextmanager
def flooding(tls: ssl.SSLContext | None) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=flood, args=(listening, tls))
        thread.start()
        yield listening.getsockname()[1]
        thread.join(20)


async def largest_turn(url: str) -> tuple[int, int, str]:
    """How many frames came in the longest time that nobody else had a turn, and in all; why the link ended."""
    since = largest = total = 0

    def on_frames(wires: Sequence[bytes], ts_recv: int) -> Sequence[bytes]:
        nonlocal since, total
        assert set(wires) == {WIRE}
        since += len(wires)
        total += len(wires)
        time.sleep(0.001)  # work, while the socket fills up
        return []

    async def others() -> None:
        nonlocal since, largest
        while True:
            largest, since = max(largest, since), 0
            await asyncio.sleep(0)

    tls = ssl.create_default_context() if url.startswith("wss") else None
    target = Target(url, {}, False, 1 << 20, tls)
    link = await Link.connect(target, SystemClock(), lambda _: [], on_frames, 10)
    working = asyncio.create_task(others())
    async with asyncio.timeout(30):
        reason = await link.ended
    working.cancel()
    return largest, total, reason


@pytest.mark.parametrize("secure", [False, True])
def test_a_flood_is_read_in_turns(secure: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = certificate(tmp_path) if secure else None
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with flooding(tls) as port:
        largest, total, reason = uvloop.run(largest_turn(f"{'wss' if secure else 'ws'}://127.0.0.1:{port}/"))
    assert total == FRAMES
    assert largest <= 2 * READ_BYTES / len(WIRE)
    assert "1000 (OK)" in reason

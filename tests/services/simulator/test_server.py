"""The simulated venue over a real network: who gets in, what is sent, what is written down, how it ends."""

import asyncio
import itertools
import json
import signal
import socket
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from activities.rest import Rest
from exchanges.kalshi import venue
from exchanges.kalshi.adapter import KalshiAdapter
from exchanges.kraken import venue as kraken
from exchanges.port import Subscription
from ssmd.recorded_time import ClientRecordedTime, ClientRecordedTimeFactory
from tests.services.simulator.conftest import Recording, Simulated

Start = Callable[..., Simulated]
CHANNELS = ("orderbook_delta", "trade", "ticker", "market_lifecycle_v2")


class Client(ClientConnection):
    """Notes the pings it gets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.pings: list[bytes] = []

    def process_event(self, event: Any) -> None:
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self.pings.append(bytes(event.data))
        super().process_event(event)


def _connect(simulated: Simulated, headers: dict[str, str] | None = None, **more: Any) -> connect:
    return connect(
        simulated.ws,
        additional_headers=headers,
        compression=None,
        ping_interval=None,
        max_queue=None,
        create_connection=Client,
        **more,
    )


async def _subscribe(ws: ClientConnection, markets: list[str], channels: tuple[str, ...] = CHANNELS) -> KalshiAdapter:
    adapter = KalshiAdapter(Subscription(channels, tuple(markets)))
    for text in adapter.opened():
        await ws.send(text, text=True)
    return adapter


async def _read(ws: ClientConnection, wanted: Callable[[list[bytes]], bool]) -> list[bytes]:
    wires: list[bytes] = []
    async with asyncio.timeout(30):
        while not wanted(wires):
            wires.append(await ws.recv(decode=False))
    return wires


def _data(wires: list[bytes]) -> Iterator[dict[str, Any]]:
    return (f for f in map(json.loads, wires) if f["type"] not in {"subscribed", "ok", "error", "unsubscribed"})


# ------------------------------------------------------------------------------------------------- getting in


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = tmp_path_factory.mktemp("keys") / "kalshi.pub.pem"
    public.write_bytes(
        private.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return pem, public


async def test_only_a_good_signature_opens_the_websocket(simulated: Start, keys: tuple[bytes, Path]) -> None:
    pem, public = keys
    s = simulated("--key-id", "key-1", "--public-key", public, "--markets", 2)
    path = "/trade-api/ws/v2"

    async def refused(headers: dict[str, str]) -> dict[str, object]:
        with pytest.raises(InvalidStatus) as caught:
            async with _connect(s, headers):
                pass
        assert caught.value.response.status_code == 401
        return dict(json.loads(caught.value.response.body)["error"])

    good = venue.key("key-1", pem)
    assert (await refused({}))["code"] == "authentication_error"
    late = await refused(good.headers("GET", path, time.time_ns() - 60_000_000_000))
    assert late["code"] == "header_timestamp_expired"
    assert (await refused(venue.key("key-2", pem).headers("GET", path, time.time_ns())))["details"] == "NOT_FOUND"
    wrong = await refused(good.headers("POST", path, time.time_ns()))
    assert wrong["details"] == "INCORRECT_API_KEY_SIGNATURE"
    async with _connect(s, good.headers("GET", path, time.time_ns())) as ws:
        await ws.send('{"id":1,"cmd":"subscribe","params":{"channels":["trade"]}}')
        assert await ws.recv() == '{"id":1,"type":"subscribed","msg":{"channel":"trade","sid":1}}'


def test_rest_is_on_the_same_port(simulated: Start) -> None:
    s = simulated("--markets", 5)
    with urllib.request.urlopen(f"{s.rest}/markets?limit=2") as answer:
        page = json.load(answer)
    assert len(page["markets"]) == 2 and page["cursor"]
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(f"{s.rest}/markets/NONE")
    assert caught.value.code == 404


def test_a_post_is_taken_with_its_body_however_it_comes(simulated: Start, tmp_path: Path) -> None:
    """Kraken's private REST: the body is signed, and the key is checked through the shell that jobs use."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"c2VjcmV0")
    s = simulated("--feed", "kraken", "--key-id", "K", "--public-key", secret)
    base = s.rest.removesuffix("/trade-api/v2")
    key = kraken.key("K", b"c2VjcmV0")
    with Rest("kraken", kraken, base, 100.0, simulated=True, key=key) as rest:
        answer, sent_ns = rest.answer(kraken.key_check())
    assert kraken.key_verdict(answer, sent_ns, "K").state == "accepted", answer
    assert answer.told_ns() is not None, "it says what time it is"
    request = key.signed(kraken.key_check(), time.time_ns())
    head = f"POST {request.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(request.body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in request.headers.items()) + "\r\n"
    with socket.create_connection(("127.0.0.1", int(base.rpartition(":")[2])), timeout=10) as pieces:
        for piece in (head[:9], head[9:], request.body.decode()[:3], request.body.decode()[3:]):
            pieces.sendall(piece.encode())
            time.sleep(0.02)
        told = b""
        while more := pieces.recv(65536):
            told += more
    assert told.startswith(b"HTTP/1.1 200") and b'"ZUSD"' in told, told


async def test_a_made_up_market_is_live_and_heartbeats(simulated: Start) -> None:
    s = simulated("--markets", 4, "--rate", 400, "--seed", 3)
    markets = s.markets()
    async with _connect(s, {"Ssmd-Connection": "kalshi-0-a"}) as ws:
        adapter = await _subscribe(ws, markets)
        began = time.monotonic()
        wires = await _read(ws, lambda seen: time.monotonic() - began > 11)
        assert ws.pings == [b"heartbeat"]  # type: ignore[attr-defined]
    told = [adapter.received(wire, 0) for wire in wires]
    assert not [t for t in told if t.bad or t.notices]
    assert 300 < len(wires) / 11 < 450
    truth = s.truth()
    assert [t["n"] for t in truth] == list(range(1, len(truth) + 1))
    assert {t["conn"] for t in truth} == {"kalshi-0-a"} and {t["tape"] for t in truth} == {None}
    assert [t["frame"] for t in truth[: len(wires)]] == [json.loads(w) for w in wires]


async def test_a_client_that_does_not_read_loses_its_subscriptions(simulated: Start) -> None:
    s = simulated("--markets", 4, "--rate", 30_000)
    markets = s.markets()
    async with connect(s.ws, compression=None, ping_interval=None, max_queue=(4, 1)) as ws:
        await _subscribe(ws, markets)
        deadline = time.monotonic() + 30
        while not any(t["frame"].get("type") == "error" for t in s.truth()[-20:]):  # type: ignore[attr-defined]
            assert time.monotonic() < deadline
            await asyncio.sleep(0.5)
        codes = []
        async with asyncio.timeout(30):
            while len(codes) < 4:
                frame = json.loads(await ws.recv())
                if frame["type"] == "error":
                    codes.append(frame["msg"]["code"])
    assert codes == [25] * 4


# --------------------------------------------------------------------------------------------------- the tape


async def test_a_tape_is_sent_whole_in_order_and_renumbered(simulated: Start, recording: Recording) -> None:
    s = simulated("--replay", recording.path, "--speed", "max")
    async with _connect(s) as ws:
        adapter = await _subscribe(ws, recording.markets)
        wires = await _read(ws, lambda seen: len(seen) == len(recording.events) + 4)
        assert all(adapter.received(wire, 0).notices == () for wire in wires)
    sent = list(_data(wires))
    assert [{k: v for k, v in f.items() if k not in {"sid", "seq"}} for f in sent] == [
        {k: v for k, v in f.items() if k not in {"sid", "seq"}} for f in recording.events
    ]
    truth = s.truth()
    assert [t["frame"] for t in truth] == [json.loads(w) for w in wires]
    assert [t["tape"] for t in truth if t["tape"] is not None] == list(range(len(recording.events)))
    status = s.status()
    assert status["tape"] | {"first_ns": 0} == {"frames": len(sent), "sent": len(sent), "done": True, "first_ns": 0}
    assert status["unsent_bytes"] == 0
    assert status["sent"] == len(wires) and status["venue"] == "kalshi"


async def test_a_real_recording_is_sent_whole(simulated: Start, shared_data: Path) -> None:
    """Two resumes in the middle of 197,896 frames: each exactly once, and the adapter sees no gap."""
    market = "KXGOLD15M-26AUG102130-30"
    path = shared_data / "kalshi/gold15m" / market / "2026-08-11.ndjson.gz"
    s = simulated("--replay", path, "--speed", "max", "--clock", "recorded")
    headers = {"Ssmd-Connection": "c-0"}
    data = 0
    for k, stop_at in enumerate((70_000, 70_000, None), 1):
        ws = await _connect(s, headers)
        adapter = await _subscribe(ws, [market], ("orderbook_delta", "trade"))
        wire = b""
        acks_and_snapshot = 2 if k == 1 else 3
        for n in itertools.count():
            if n - acks_and_snapshot == stop_at or data == 197_896:
                break
            wire = await ws.recv(decode=False)
            assert adapter.received(wire, 0).notices == ()
            data += n >= acks_and_snapshot
        ws.transport.abort()
        headers = {"Ssmd-Connection": f"c-{k}", "Ssmd-Resume": f"c-{k - 1} {zlib.crc32(wire):08x}"}
    tape = s.status()["tape"]
    assert tape == {"frames": 197_896, "sent": 197_896, "done": True, "first_ns": 1_786_410_915_524_000_000}


async def test_a_tape_waits_for_the_subscription_to_all_it_holds(simulated: Start, recording: Recording) -> None:
    s = simulated("--replay", recording.path, "--speed", "max")
    async with _connect(s) as ws:
        await _subscribe(ws, recording.markets, ("orderbook_delta",))
        await _read(ws, lambda seen: len(seen) == 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ws.recv(), 1)
        await _subscribe(ws, [], ("trade", "ticker"))
        await ws.send('{"id":9,"cmd":"subscribe","params":{"channels":["market_lifecycle_v2"]}}')
        wires = await _read(ws, lambda seen: len(seen) == len(recording.events) + 3)
        assert sum(1 for _ in _data(wires)) == len(recording.events)


async def test_a_partial_subscriber_is_waited_for_five_seconds(simulated: Start, recording: Recording) -> None:
    s = simulated("--replay", recording.path, "--speed", "max")
    trades = sum(e["type"] == "trade" for e in recording.events)
    async with _connect(s) as ws:
        await _subscribe(ws, [], ("trade",))
        began = time.monotonic()
        wires = await _read(ws, lambda seen: len(seen) == trades + 1)
        assert 4.5 < time.monotonic() - began < 20
        assert {f["type"] for f in _data(wires)} == {"trade"}


async def test_speed_is_a_multiple_of_the_recorded_pace(simulated: Start, recording: Recording) -> None:
    s = simulated("--replay", recording.path, "--speed", 10)  # 30 s in 3
    async with _connect(s) as ws:
        await _subscribe(ws, recording.markets)
        arrived: list[float] = []
        await _read(ws, lambda seen: arrived.append(time.monotonic()) or len(seen) == len(recording.events) + 4)  # type: ignore[func-returns-value]
    assert 2.8 < arrived[-1] - arrived[4] < 3.6
    half = arrived[4 + len(recording.events) // 2] - arrived[4]
    assert 1.2 < half < 1.9


async def test_recorded_times_arrive_exactly(simulated: Start, recording: Recording) -> None:
    s = simulated("--replay", recording.path, "--speed", "max", "--clock", "recorded")
    async with _connect(s, extensions=[ClientRecordedTimeFactory()]) as ws:
        await _subscribe(ws, recording.markets)
        wires = await _read(ws, lambda seen: len(seen) == len(recording.events) + 4)
        (extension,) = ws.protocol.extensions
        assert isinstance(extension, ClientRecordedTime)
        times = list(extension.times)
    is_data = [json.loads(w)["type"] != "subscribed" for w in wires]
    assert list(itertools.compress(times, is_data)) == [ms * 1_000_000 for ms in recording.recv_ms]
    assert len(times) == len(wires) and times == sorted(times)
    assert [t["ts_recv"] for t in s.truth()] == times
    async with _connect(s) as ws:  # a client that does not ask for times gets none
        await ws.send('{"id":1,"cmd":"list_subscriptions"}')
        assert await ws.recv() == '{"id":1,"type":"ok","msg":[]}'


async def test_times_are_not_offered_under_the_clock_of_now(simulated: Start) -> None:
    s = simulated()
    async with _connect(s, extensions=[ClientRecordedTimeFactory()]) as ws:
        assert ws.protocol.extensions == []


# ----------------------------------------------------------------------------------------------------- resume


@pytest.mark.parametrize("cut_after", [0, 3, 40, 2500])
async def test_a_resume_after_an_abrupt_end_loses_nothing(
    simulated: Start, recording: Recording, cut_after: int
) -> None:
    """What both connections got is the recording, once; the new one starts from the book as it was there."""
    s = simulated("--replay", recording.path, "--speed", "max")
    ws = await _connect(s, {"Ssmd-Connection": "kalshi-0-a"})
    await _subscribe(ws, recording.markets)
    first = await _read(ws, lambda seen: len(seen) == cut_after)  # more is on its way, and is lost
    ws.transport.abort()
    crc = f"{zlib.crc32(first[-1]):08x}" if first else "none"
    headers = {"Ssmd-Connection": "kalshi-0-b", "Ssmd-Resume": f"kalshi-0-a {crc}"}
    held = [f for f in _data(first) if f["type"] != "orderbook_snapshot" or f["seq"] > 4]
    async with _connect(s, headers) as ws:
        await _subscribe(ws, recording.markets)
        rest = len(recording.events) - len(held)
        snapshots = len({f["msg"].get("market_ticker") for f in held if f["type"] == "orderbook_delta"})
        second = await _read(ws, lambda seen: len(seen) == rest + snapshots + 4)
    after = list(_data(second))
    own, after = after[:snapshots], after[snapshots:]
    assert all(f["type"] == "orderbook_snapshot" for f in own)
    bare = [{k: v for k, v in f.items() if k not in {"sid", "seq"}} for f in [*held, *after]]
    assert bare == [{k: v for k, v in f.items() if k not in {"sid", "seq"}} for f in recording.events]
    tape = [t["tape"] for t in s.truth() if t["conn"] == "kalshi-0-b" and t["tape"] is not None]
    assert tape == list(range(len(held), len(recording.events)))
    for snapshot in own:
        assert snapshot["msg"] == _book(recording, snapshot["msg"]["market_ticker"], len(held))


def _book(recording: Recording, market: str, place: int) -> dict[str, Any]:
    """The book after the first `place` frames, by the shortest way."""
    sides: dict[str, dict[str, float]] = {"yes": {}, "no": {}}
    for event in recording.events[:place]:
        body: Any = event["msg"]
        if event["type"] == "orderbook_delta" and body["market_ticker"] == market:
            side = sides[body["side"]]
            side[body["price_dollars"]] = round(side.get(body["price_dollars"], 0) + float(body["delta_fp"]), 2)
            market_id = body["market_id"]
    levels = {f"{s}_dollars_fp": [[p, f"{n:.2f}"] for p, n in sorted(side.items()) if n] for s, side in sides.items()}
    return {"market_ticker": market, "market_id": market_id, **{k: v for k, v in levels.items() if v}}


async def test_without_a_resume_the_tape_goes_on_where_it_stood(simulated: Start, recording: Recording) -> None:
    s = simulated("--replay", recording.path, "--speed", 10)
    ws = await _connect(s)
    await _subscribe(ws, recording.markets)
    first = await _read(ws, lambda seen: len(seen) == 1000)
    ws.transport.abort()
    await asyncio.sleep(0.7)
    stood: Any = s.status()["tape"]
    await asyncio.sleep(0.5)
    assert s.status()["tape"] == stood and not stood["done"]  # nobody listens: it waits
    async with _connect(s) as ws:
        await _subscribe(ws, recording.markets)
        await _read(ws, lambda seen: len(seen) == 200)
    tapes = [t["tape"] for t in s.truth() if t["tape"] is not None]
    assert tapes == list(range(len(tapes))) and len(tapes) > len(list(_data(first)))


async def test_a_resume_takes_over_from_a_connection_that_hangs(simulated: Start, recording: Recording) -> None:
    s = simulated("--replay", recording.path, "--speed", "max")
    hangs = await _connect(s, {"Ssmd-Connection": "old"})
    await _subscribe(hangs, recording.markets)
    first = await _read(hangs, lambda seen: len(seen) == 50)
    crc = f"{zlib.crc32(first[-1]):08x}"
    async with _connect(s, {"Ssmd-Connection": "new", "Ssmd-Resume": f"old {crc}"}) as ws:
        await _subscribe(ws, recording.markets)
        held = sum(1 for f in _data(first))
        await _read(
            ws,
            lambda seen: (
                sum(1 for _ in _data(seen[-1:])) and json.loads(seen[-1]).get("msg") == recording.events[-1]["msg"]
            ),
        )
    tape = [t["tape"] for t in s.truth() if t["conn"] == "new" and t["tape"] is not None]
    assert tape == list(range(held, len(recording.events)))
    with pytest.raises(ConnectionClosed):
        while True:
            await asyncio.wait_for(hangs.recv(), 5)


async def test_a_resume_repeats_nothing_to_the_other_clients(simulated: Start, recording: Recording) -> None:
    s = simulated("--replay", recording.path, "--speed", "max")
    stays = await _connect(s, {"Ssmd-Connection": "stays"})
    await stays.send('{"id":1,"cmd":"subscribe","params":{"channels":["trade"]}}')
    await _read(stays, lambda seen: len(seen) == 1)
    goes = await _connect(s, {"Ssmd-Connection": "goes"})
    await _subscribe(goes, recording.markets)
    held = await _read(goes, lambda seen: len(seen) == 100)
    goes.transport.abort()
    headers = {"Ssmd-Connection": "comes", "Ssmd-Resume": f"goes {zlib.crc32(held[-1]):08x}"}
    async with _connect(s, headers) as comes:
        await _subscribe(comes, recording.markets)
        await _read(comes, lambda seen: bool(seen) and json.loads(seen[-1]).get("msg") == recording.events[-1]["msg"])
        trades = [place for place, event in enumerate(recording.events) if event["type"] == "trade"]
        await _read(stays, lambda seen: len(seen) == len(trades))
    await stays.close()
    assert [t["tape"] for t in s.truth() if t["conn"] == "stays" and t["tape"] is not None] == trades


# ---------------------------------------------------------------------------------------------------- the end


async def test_it_says_good_bye_and_is_gone(simulated: Start, recording: Recording) -> None:
    s = simulated("--replay", recording.path, "--speed", 1)
    async with _connect(s) as ws:
        await _subscribe(ws, recording.markets)
        await _read(ws, lambda seen: len(seen) == 20)
        began = time.monotonic()
        s.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as caught:
            while True:
                await asyncio.wait_for(ws.recv(), 5)
        assert caught.value.rcvd is not None and caught.value.rcvd.code == 1001
        await asyncio.to_thread(s.process.wait, 10)
        assert time.monotonic() - began < 8
    assert s.process.returncode == 0


async def test_a_client_that_does_not_answer_does_not_hold_it_up(simulated: Start, recording: Recording) -> None:
    s = simulated("--replay", recording.path, "--speed", "max")
    async with connect(s.ws, compression=None, ping_interval=None, max_queue=(1, 0)) as ws:
        await _subscribe(ws, recording.markets)
        await asyncio.sleep(0.5)  # reads nothing more
        ws.transport.pause_reading()
        began = time.monotonic()
        s.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(s.process.wait, 10)
        assert time.monotonic() - began < 8
        ws.transport.abort()
    assert s.process.returncode == 0

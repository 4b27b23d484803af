"""The blaster sends what it is asked for, and a connector finds nothing wrong with it."""

import itertools
import re
import time
from pathlib import Path

import pytest
from websockets.sync.client import ClientConnection, connect

from bench import corpus, parts
from exchanges.kalshi import venue
from exchanges.port import Subscription

FRAMES = 500
LOOPS = 3


@pytest.fixture(scope="module")
def frames() -> corpus.Corpus:
    return corpus.make(FRAMES, markets=5)


def received(websocket: ClientConnection, count: int) -> list[bytes]:
    return [websocket.recv(timeout=20, decode=False) for _ in range(count)]


@pytest.mark.parametrize("rate", [0, 5_000])
def test_no_frame_is_missing_twice_or_wrong(tmp_path: Path, frames: corpus.Corpus, rate: float) -> None:
    adapter = venue.adapter(Subscription(corpus.CHANNELS, tuple(frames.symbols)))
    adapter.opened()
    with parts.Blaster(tmp_path, frames) as blaster, connect(blaster.url, compression=None) as websocket:
        blaster.told("connected")
        blaster.send(LOOPS * FRAMES, rate)
        got = received(websocket, blaster.opening + LOOPS * FRAMES)
        blaster.sent()
        blaster.send(1, rate)
        got += received(websocket, 1)
    for wire in got:
        route = adapter.received(wire, 0)
        assert route.bad is None
        assert not route.notices
    plain = [re.sub(rb',"sent_ns":\d+\}$', b"}", wire) for wire in got]
    assert plain == frames.opening + list(itertools.islice(frames.wires(), LOOPS * FRAMES + 1))


def test_paced_frames_carry_the_time_they_were_sent(tmp_path: Path, frames: corpus.Corpus) -> None:
    with parts.Blaster(tmp_path, frames) as blaster, connect(blaster.url, compression=None) as websocket:
        received(websocket, blaster.opening)
        began = time.monotonic_ns()
        blaster.send(FRAMES, 1_000)
        stamps = []
        for wire in received(websocket, FRAMES):
            found = re.search(rb',"sent_ns":(\d+)\}$', wire)
            assert found is not None
            stamps.append(int(found[1]))
        assert stamps == sorted(stamps)
        assert began < stamps[0]
        assert stamps[-1] < time.monotonic_ns()
        assert stamps[-1] - stamps[0] >= (FRAMES - 1) / 1_000 * 1e9 * 0.99  # none before it was due


def test_pings_are_answered_and_the_next_client_is_served(tmp_path: Path, frames: corpus.Corpus) -> None:
    with parts.Blaster(tmp_path, frames) as blaster:
        for _ in range(2):
            with connect(blaster.url, compression=None) as websocket:
                received(websocket, blaster.opening)
                assert websocket.ping(b"are you there").wait(10)
            blaster.told("connected")

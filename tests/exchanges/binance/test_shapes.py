"""What the simulator makes up has the shape of what was recorded: the same keys in the same order, the same types."""

import gzip
import json
import re
from collections.abc import Iterator

import pytest

from exchanges import binance_usdm
from exchanges.binance import venue
from exchanges.port import Venue

from .talk import FIXTURES, USDM_FIXTURE, generated

_DECIMAL = re.compile(r"[0-9]+\.[0-9]+")


def shape(value: object) -> object:
    """Keys in order and types; of lists what is in them; decimals told from other texts."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value and not isinstance(value[0], str) else [shape(v) for v in value]
    if isinstance(value, str):
        return "decimal" if _DECIMAL.fullmatch(value) else "text"
    return type(value).__name__


def shapes(frames: Iterator[bytes]) -> dict[str, tuple[list[str], object]]:
    """By stream without its symbol: of a frame whose lists are not empty, the order of its keys and its shape."""
    found: dict[str, tuple[list[str], object]] = {}
    for wire in frames:
        frame = json.loads(wire)
        if "stream" not in frame or frame["data"] == [] or "result" in frame:
            continue
        data = frame["data"]
        if data.get("b") == [] or data.get("a") == []:
            continue
        found.setdefault(frame["stream"].partition("@")[2], (list(data), shape(data)))
    return found


def recorded(name: str) -> Iterator[bytes]:
    with gzip.open(USDM_FIXTURE if name.startswith("usdm") else FIXTURES / name) as file:
        for line in file:
            if b'{"stream"' in line:
                yield line[line.index(b"{") :]


def made_up(of: Venue, channels: tuple[str, ...]) -> dict[str, tuple[list[str], object]]:
    talk = generated(of, channels, markets=2)
    talk.generate(5.0)
    return shapes(wire for channel, wire in talk.lines if channel not in {"control", "depth_snapshot"})


@pytest.mark.parametrize(
    ("stream", "name"),
    [
        ("trade", "spot-2024-08-08.gz"),
        ("bookTicker", "spot-2024-08-08.gz"),
        ("depth@100ms", "spot-2024-08-08.gz"),
        ("aggTrade", "spot-2021-08-14.gz"),
        ("kline_1m", "spot-2021-08-14.gz"),
    ],
)
def test_spot(stream: str, name: str) -> None:
    assert made_up(venue, (stream,))[stream] == shapes(recorded(name))[stream]


# Since the merger of mid-2026 payloads say which product they are of (`st`) and of which pair (`ps`).
@pytest.mark.parametrize(
    ("stream", "new"), [("trade", set()), ("bookTicker", {"ps", "st"}), ("depth@100ms", {"ps", "st"})]
)
def test_usdm(stream: str, new: set[str]) -> None:
    old = shapes(recorded("usdm-2024-07-18.gz"))[stream.replace("100ms", "0ms")][1]
    made = made_up(binance_usdm.venue, (stream,))[stream][1]
    assert isinstance(old, dict) and isinstance(made, dict)
    assert {key: kind for key, kind in made.items() if key not in new} == old
    assert set(made) - set(old) == new


def test_an_event_without_changes_on_one_side_has_an_empty_list() -> None:
    sides = [json.loads(w)["data"] for w in recorded("spot-2021-08-14.gz") if b"@depth" in w]
    assert any(d["b"] == [] for d in sides) and any(d["a"] == [] for d in sides)
    talk = generated(channels=("depth@100ms",), markets=2, frames_per_second=30.0)
    talk.generate(10.0)
    made = [json.loads(wire)["data"] for channel, wire in talk.lines if channel == "depth"]
    assert any(d["b"] == [] for d in made) and any(d["a"] == [] for d in made)

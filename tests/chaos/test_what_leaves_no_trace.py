"""Kraken's checksum tells whether a book is right, not whether an update was lost that the next one sets again."""

import json
from pathlib import Path

import pytest

from .accounts import read_truth

CONN = "kraken-0-1-2"


def _update(channel: str = "book", symbol: str = "A/USD", **levels: list[tuple[str, str]]) -> str:
    bids, asks = (
        ",".join(f'{{"price":{price},"qty":{qty}}}' for price, qty in levels.get(side, [])) for side in ("bids", "asks")
    )
    data = f'[{{"symbol":"{symbol}","bids":[{bids}],"asks":[{asks}],"checksum":1}}]'
    return f'{{"channel":"{channel}","type":"update","data":{data}}}'


LOST = _update(bids=[("1.10", "5.0")], asks=[("1.30", "0")])


@pytest.mark.parametrize(
    ("after", "unseen"),
    [
        ([_update(bids=[("1.10", "7.0")], asks=[("1.30", "2.0"), ("1.40", "0")])], True),
        ([_update(bids=[("1.10", "7.0")])], False),
        ([_update(asks=[("1.10", "7.0"), ("1.30", "2.0")])], False),
        ([_update("trade"), _update(symbol="B/USD", bids=[("1.10", "5.0")]), LOST], True),
        ([], False),
    ],
)
def test_a_lost_update_that_the_next_one_sets_again(tmp_path: Path, after: list[str], unseen: bool) -> None:
    truth = tmp_path / "truth.jsonl"
    fault = {"fault": "skip", "conn": CONN, "n": 1, "ts": 5, "channel": "book", "symbol": "A/USD", "lost": [LOST]}
    sent = [f'{{"ts_recv":{n},"conn":"{CONN}","n":{n},"frame":{wire}}}' for n, wire in enumerate(after, 2)]
    truth.write_text("".join(line + "\n" for line in (json.dumps(fault), *sent)))
    _, (found,) = read_truth(truth)
    assert found.overwritten() == unseen

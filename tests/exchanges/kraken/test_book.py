"""A book and its checksum: the digits as sent, ten levels of a side, cut to its depth as the venue cuts it."""

import json
from decimal import Decimal
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.kraken import markets
from exchanges.kraken.book import Book, checksum
from exchanges.kraken.markets import Change
from exchanges.kraken.messages import DEPTHS, Frame, Item


def _item(wire: bytes) -> Item:
    data = msgspec.json.decode(wire, type=Frame).data
    assert isinstance(data, list)
    (item,) = data
    return item


def _update(bids: list[tuple[str, str]], asks: list[tuple[str, str]], crc: int) -> Item:
    sides = [",".join(f'{{"price":{p},"qty":{q}}}' for p, q in side) for side in (bids, asks)]
    entry = f'{{"symbol":"A/B","bids":[{sides[0]}],"asks":[{sides[1]}],"checksum":{crc}}}'
    return _item(f'{{"channel":"book","type":"update","data":[{entry}]}}'.encode())


ASKS = [("45285.2", "0.00100000"), ("45286.4", "1.54582015")]
BIDS = [("45283.5", "0.10000000"), ("45283.4", "1.54582015")]


def test_the_checksum_is_over_digits_without_point_and_leading_zeros() -> None:
    assert crc32(b"45285210000045286415458201545283510000000452834154582015") == 2178325928
    assert checksum(ASKS, BIDS) == 2178325928
    assert Book(10).change(_update(BIDS, ASKS, 2178325928))


@pytest.mark.parametrize(
    ("bids", "asks"),
    [
        ([("45283.50", "0.10000000"), BIDS[1]], ASKS),  # a zero more says something else
        (BIDS, [("45285.2", "0.001"), ASKS[1]]),
        (BIDS, ASKS[:1]),
        ([], []),
    ],
)
def test_other_digits_are_another_checksum(bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> None:
    assert not Book(10).change(_update(bids, asks, 2178325928))


def test_only_ten_levels_count_and_order_within_a_frame_holds() -> None:
    asks = [(f"1{n}.0", f"{n}.5") for n in range(10, 30)]
    book = Book(25)
    assert book.change(_update([], asks, checksum(asks, [])))
    changes = [("110.0", "7.0"), ("110.0", "0.0"), ("110.0", "8.0"), ("129.0", "9.9")]
    assert book.change(_update([], changes, checksum([("110.0", "8.0"), *asks[1:]], [])))


@pytest.mark.parametrize("text", ["1e-7", "null", '"5.1"', "[]", "{}", "true"])
def test_a_price_that_is_no_plain_number_cannot_be_applied(text: str) -> None:
    with pytest.raises(ValueError):
        Book(10).change(_update([(text, "1.0")], [], 0))


_CHANGES = st.lists(
    st.tuples(st.sampled_from(["bids", "asks"]), st.integers(1, 40), st.integers(0, 3)), min_size=1, max_size=4
)


@given(st.lists(_CHANGES, min_size=1, max_size=60), st.sampled_from([10, 25]))
def test_what_the_simulated_venue_tells_a_depth_keeps_its_checksum(
    updates: list[list[tuple[str, int, int]]], depth: int
) -> None:
    """Bids below 500, asks above: levels rise into the depth and fall out of it; both sides agree after each frame."""
    market = markets.Market("A/B", 1, 2)
    book = Book(depth)
    assert book.change(_item(market.snapshot(depth, "2026-08-11T01:15:15.579000Z")))
    for update in updates:
        changes = [
            Change(side, market.price(5000 - n if side == "bids" else 5000 + n), market.size(size))
            for side, n, size in update
        ]
        told = market.book.change(changes, [depth])[depth]
        if not told:
            continue
        bids, asks = ([c[1:] for c in told if c.side == side] for side in ("bids", "asks"))
        wire = markets.frame("book", "update", [market.book_entry(bids, asks, "2026-08-11T01:15:15.579000Z")])
        assert book.change(_item(wire))
    for side, own in (("bids", book.bids), ("asks", book.asks)):
        assert len(own) == len(market.book.sides[side].best(depth))


@given(st.lists(_CHANGES, min_size=2, max_size=40))
def test_a_lost_update_of_the_best_ten_is_seen_unless_it_made_no_difference(
    updates: list[list[tuple[str, int, int]]],
) -> None:
    """The control: lose the first update; the next frame agrees only if the books are equal all the same."""
    market, reference = markets.Market("A/B", 1, 2), markets.Market("A/B", 1, 2)
    book = Book(10)
    book.change(_item(market.snapshot(10, "")))
    for k, update in enumerate(updates[:2]):
        changes = [
            Change(side, market.price(5000 - n if side == "bids" else 5000 + n), market.size(size))
            for side, n, size in update
        ]
        told = market.book.change(changes, [10])[10]
        if k == 0:
            continue
        reference.book.change(told, [])
        bids, asks = ([c[1:] for c in told if c.side == side] for side in ("bids", "asks"))
        agrees = book.change(_item(markets.frame("book", "update", [market.book_entry(bids, asks, "")])))
        assert agrees == (reference.book.checksum() == market.book.checksum())


def test_depths_are_those_of_the_venue() -> None:
    assert DEPTHS == (10, 25, 100, 500, 1000)


def test_simulated_prices_keep_their_decimals() -> None:
    market = markets.Market("PEPE/USD", 10, 5)
    assert (market.price(78_931), market.size(9)) == ("0.0000078931", "0.00009")
    assert Decimal(market.price(10**11)) == 10
    assert json.loads(market.snapshot(10, "t"))["data"][0]["checksum"] == crc32(b"")

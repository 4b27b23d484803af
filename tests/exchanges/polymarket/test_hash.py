"""The hash in a book and in each change names the whole book: it is worked out anew from recorded frames."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchanges.polymarket.messages import LIKELY, book_hash

from .recorded import BOOKS, session

SIDE = st.dictionaries(
    st.integers(1, 999).map(lambda p: f"{p / 1000:g}"), st.integers(1, 10**6).map(lambda s: f"{s / 100:.2f}")
)


def sides(book: dict[str, object]) -> tuple[dict[str, str], dict[str, str]]:
    return tuple({level["price"]: level["size"] for level in book[side]} for side in ("bids", "asks"))  # type: ignore


@pytest.mark.parametrize("wire", BOOKS)
def test_every_recorded_book_has_the_hash_we_work_out(wire: bytes) -> None:
    book = json.loads(wire)
    worked_out = book_hash(
        book["market"],
        book["asset_id"],
        book["timestamp"],
        *sides(book),
        book["tick_size"],
        book["last_trade_price"],
        LIKELY[0],
    )
    assert worked_out == book["hash"]


def test_every_recorded_change_after_a_book_names_the_book_it_leaves() -> None:
    books: dict[str, dict[str, object]] = {}
    levels: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
    verified = older = 0
    for direction, wire in session():
        if direction == "out":
            continue
        frame = json.loads(wire)
        for book in frame if isinstance(frame, list) else ():
            books[book["asset_id"]], levels[book["asset_id"]] = book, sides(book)
        for change in frame["price_changes"] if isinstance(frame, dict) else ():
            token = change["asset_id"]
            book, (bids, asks) = books[token], levels[token]
            if frame["timestamp"] < str(book["timestamp"]):
                older += 1  # in the book already
                continue
            side = bids if change["side"] == "BUY" else asks
            side.pop(change["price"], None)
            if change["size"] != "0":
                side[change["price"]] = change["size"]
            tick, last = str(book["tick_size"]), str(book["last_trade_price"])
            found = book_hash(frame["market"], token, frame["timestamp"], bids, asks, tick, last, LIKELY[0])
            if frame["timestamp"] > str(book["timestamp"]):  # of the same time it may be in the book, or not
                assert found == change["hash"], frame
                verified += 1
    assert (verified, older) == (10, 4)


@given(SIDE, SIDE, st.sampled_from(LIKELY))
def test_a_hash_differs_when_a_level_does(bids: dict[str, str], asks: dict[str, str], constants: object) -> None:
    def hashed(b: dict[str, str], a: dict[str, str]) -> str:
        return book_hash("0xm", "1", "1781254836832", b, a, "0.01", "0.540", constants)  # type: ignore[arg-type]

    whole = hashed(bids, asks)
    assert whole == hashed(dict(reversed(bids.items())), dict(reversed(asks.items())))
    for price, size in bids.items():
        assert hashed({p: s for p, s in bids.items() if p != price}, asks) != whole
        assert hashed(bids | {price: size + "1"}, asks) != whole

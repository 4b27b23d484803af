"""Frames say the same to live and to past: exact values, in the venue's digits, nothing invented."""

import pytest

from exchanges.deribit import venue
from exchanges.deribit.messages import CHANNELS
from exchanges.port import Unparsable
from ssmd.events import BookDelta, BookSnapshot, Event, Status, Ticker, Trade

EVENTS = venue.events("2026-11-20")
MS = 1_000_000


def _wire(channel: str, data: str) -> bytes:
    return b'{"jsonrpc":"2.0","method":"subscription","params":{"channel":"%b","data":%b}}' % (
        channel.encode(),
        data.encode(),
    )


def _of(channel: str, data: str) -> list[Event]:
    return list(EVENTS(channel, _wire("whatever", data)))


_TRADE = (
    '{"timestamp":1765531356452,"price":92294.5,"amount":10.0,"direction":"sell","index_price":92276.75,'
    '"instrument_name":"BTC-PERPETUAL","trade_seq":271252854,"mark_price":92287.11,"tick_direction":2,"contracts":1.0,'
    '"combo_trade_id":43,"trade_id":"403691824"}'
)


def test_an_array_of_trades_gives_each_in_its_order_duplicates_and_all() -> None:
    later = _TRADE.replace("403691824", "ETH-7").replace("sell", "buy").replace("92294.5", "-0.5")
    assert _of("trades", f"[{_TRADE},{later},{_TRADE}]") == [
        Trade("BTC-PERPETUAL", 1765531356452 * MS, "92294.5", "10.0", "sell", "403691824"),
        Trade(
            "BTC-PERPETUAL", 1765531356452 * MS, "-0.5", "10.0", "buy", "ETH-7"
        ),  # a combo may cost less than nothing
        Trade("BTC-PERPETUAL", 1765531356452 * MS, "92294.5", "10.0", "sell", "403691824"),
    ]
    assert _of("trades", "[]") == []


def test_the_legs_of_a_combo_are_trades_of_their_own_tapes() -> None:
    leg = _TRADE.replace("BTC-PERPETUAL", "BTC-19MAY26")
    combo = _TRADE[:-1].replace("BTC-PERPETUAL", "BTC-FS-19MAY26_PERP") + f',"legs":[{leg},{_TRADE}]}}'
    (trade,) = _of("trades", f"[{combo}]")
    assert trade.symbol == "BTC-FS-19MAY26_PERP"


def test_the_finer_time_of_the_newer_engine_is_left_alone() -> None:
    newer = _TRADE[:-1] + ',"starbase_match_id":234390125612642304,"starbase_timestamp":1765531356452517986}'
    assert _of("trades", f"[{newer}]")[0].ts_event == 1765531356452 * MS


@pytest.mark.parametrize(
    ("digits", "text"),
    [
        ("1054.0", "1054.0"),
        ("2700", "2700"),
        ("0.00010", "0.00010"),
        ("2.2e3", "2200"),
        ("7.8562e-4", "0.00078562"),
        ("3.0e-5", "0.000030"),
        ("1E2", "100"),
        ("-1.5", "-1.5"),
        ("79228162514264337593543950335.12345", "79228162514264337593543950335.12345"),
    ],
)
def test_numbers_keep_their_digits_and_exponents_are_written_out(digits: str, text: str) -> None:
    (trade,) = _of("trades", f"[{_TRADE.replace('92294.5', digits)}]")
    assert isinstance(trade, Trade) and trade.price == text


def test_a_book_comes_whole_then_level_by_level() -> None:
    snapshot = (
        '{"type":"snapshot","timestamp":1622626472678,"instrument_name":"BTC-25JUN21","change_id":31479219781,'
        '"bids":[["new",37311.5,530.0],["new",37317.0,2960.0]],"asks":[["new",37328.0,3000.0],["new",37327.0,10.0]]}'
    )
    whole = BookSnapshot(
        "BTC-25JUN21",
        1622626472678 * MS,
        [("37317.0", "2960.0"), ("37311.5", "530.0")],
        [("37327.0", "10.0"), ("37328.0", "3000.0")],
    )
    assert _of("book", snapshot) == [whole]
    assert _of("book", snapshot.replace('"type":"snapshot",', "")) == [whole]  # as older captures have it
    change = (
        '{"type":"change","timestamp":1622626784890,"prev_change_id":31479339296,"instrument_name":"BTC-25JUN21",'
        '"change_id":31479339507,"bids":[["new",37392.5,3000.0],["change",37399.0,6530.0]],"asks":[["delete",37848.5,0.0]]}'
    )
    at = 1622626784890 * MS
    assert _of("book", change) == [
        BookDelta("BTC-25JUN21", at, "bid", "37392.5", "3000.0"),
        BookDelta("BTC-25JUN21", at, "bid", "37399.0", "6530.0"),
        BookDelta("BTC-25JUN21", at, "ask", "37848.5", "0.0"),
    ]
    nothing = (
        '{"type":"change","timestamp":1,"prev_change_id":1,"instrument_name":"A","change_id":2,"bids":[],"asks":[]}'
    )
    assert _of("book", nothing) == []
    empty = '{"type":"snapshot","timestamp":1,"instrument_name":"A","change_id":2,"bids":[],"asks":[]}'
    assert _of("book", empty) == [BookSnapshot("A", MS, [], [])]


def test_a_window_of_a_book_is_complete_each_time() -> None:
    window = '{"timestamp":5,"instrument_name":"A","change_id":9,"bids":[[10.0,1.0],[11.0,2.0]],"asks":[[12.0,3.0]]}'
    assert _of("book_grouped", window) == [
        BookSnapshot("A", 5 * MS, [("11.0", "2.0"), ("10.0", "1.0")], [("12.0", "3.0")])
    ]


def test_tickers_and_quotes_tell_what_they_tell() -> None:
    ticker = (
        '{"timestamp":1654161785818,"stats":{"volume_usd":545442610.0,"volume":17945.19644566,"price_change":-5.4014},'
        '"state":"open","open_interest":559791310,"mark_price":29932.79,"last_price":29931.0,'
        '"instrument_name":"BTC-PERPETUAL","best_bid_price":29930.5,"best_bid_amount":149910.0,"best_ask_price":29931.0,'
        '"best_ask_amount":62850.0}'
    )
    full = Ticker(
        "BTC-PERPETUAL",
        1654161785818 * MS,
        last="29931.0",
        bid="29930.5",
        bid_size="149910.0",
        ask="29931.0",
        ask_size="62850.0",
        volume="17945.19644566",
        open_interest="559791310",
    )
    assert _of("ticker", ticker) == [full]
    assert _of("incremental_ticker", ticker.replace("{", '{"type":"snapshot",', 1)) == [full]
    change = '{"type":"change","timestamp":7,"instrument_name":"A","best_bid_amount":5.0,"stats":{"high":1.0}}'
    assert _of("incremental_ticker", change) == [Ticker("A", 7 * MS, bid_size="5.0")]
    best = '"best_bid_price":1.5,"best_bid_amount":2,"best_ask_price":3,"best_ask_amount":4'
    quote = f'{{"timestamp":7,"instrument_name":"A",{best}}}'
    assert _of("quote", quote) == [Ticker("A", 7 * MS, bid="1.5", bid_size="2", ask="3", ask_size="4")]


@pytest.mark.parametrize(
    ("price", "amount", "expected"),
    [
        ("0.0", "0.0", (None, None)),
        ("0", "0", (None, None)),
        ("null", "0.0", (None, None)),
        ("null", "null", (None, None)),
        ("0.0", "12.0", ("0.0", "12.0")),  # a combo that costs nothing
        ("-2.5", "12.0", ("-2.5", "12.0")),
    ],
)
def test_an_empty_side_has_no_price(price: str, amount: str, expected: tuple[str | None, str | None]) -> None:
    best = f'"best_bid_price":{price},"best_bid_amount":{amount}'
    data = f'{{"instrument_name":"A",{best},"last_price":null,"stats":{{"volume":null}}}}'
    (ticker,) = _of("ticker", data)
    assert isinstance(ticker, Ticker)
    assert (ticker.bid, ticker.bid_size, ticker.last, ticker.volume, ticker.ts_event) == (*expected, None, None, None)


def test_states_keep_the_venues_words() -> None:
    state = '{"timestamp":1553080940000,"state":"settlement","instrument_name":"BTC-22MAR19"}'
    assert _of("instrument_state", state) == [Status("BTC-22MAR19", 1553080940000 * MS, "settlement", state)]
    created = '{"instrument_name":"BTC-22MAR19","creation_timestamp":1553080940000,"strike": 5.0}'
    assert _of("instrument_creation", created) == [Status("BTC-22MAR19", 1553080940000 * MS, "creation", created)]
    locked = '{"price_index":"sol_usdc","locked":true}'
    assert _of("platform_state", locked) == [Status("sol_usdc", None, "locked=true", locked)]
    closed = '{"maintenance":true}'
    assert _of("platform_state", closed) == [Status("platform_state", None, "maintenance=true", closed)]


@pytest.mark.parametrize("channel", sorted({*CHANNELS.values(), "control", "_session", "_gap"}))
def test_every_channel_of_the_adapter_has_its_grammar(channel: str) -> None:
    data = '[{"instrument_name":"A","mark_price":1.0}]' if "mark" in channel else '{"instrument_name":"A"}'
    try:
        EVENTS(channel, _wire("whatever", data))
    except Unparsable as e:
        assert "not as documented" in str(e)


@pytest.mark.parametrize(
    ("channel", "data", "reason"),
    [
        ("trades", f"[{_TRADE.replace('92294.5', 'null')}]", "'null' is no decimal number"),
        ("trades", f"[{_TRADE.replace('92294.5', '1e400')}]", "'1e400' is no decimal number"),
        ("trades", f"[{_TRADE.replace('92294.5', chr(34) * 2)}]", "is no decimal number"),
        ("trades", f"[{_TRADE.replace('sell', 'up')}]", "Invalid enum value 'up'"),
        ("trades", f"[{_TRADE.replace('instrument_name', 'name')}]", "instrument_name"),
        ("trades", "{}", "Expected `array`"),
        ("book", '{"instrument_name":"A","bids":[["gone",1,2]],"asks":[]}', "gone"),
        ("book", '{"instrument_name":"A","bids":[["new",1]],"asks":[]}', "length 3"),
        ("book", '{"instrument_name":"A","bids":[["new",true,2]],"asks":[]}', "'true' is no decimal number"),
        ("book_grouped", '{"instrument_name":"A","bids":[["new",1,2]],"asks":[]}', "length 2"),
        ("ticker", '{"instrument_name":"A","last_price":[1]}', "is no decimal number"),
        ("instrument_state", '{"instrument_name":"A"}', "state"),
        ("no_such", "{}", "no channel 'no_such'"),
    ],
)
def test_what_the_grammar_does_not_know_is_unparsable_with_a_reason(channel: str, data: str, reason: str) -> None:
    with pytest.raises(Unparsable, match=reason):
        _of(channel, data)


@pytest.mark.parametrize("wire", [b"not json", b'{"params":', b'{"params":' + b"[" * 100_000, b"\xff", b"5"])
def test_what_is_no_frame_is_unparsable(wire: bytes) -> None:
    for channel in ("trades", "book", "ticker", "instrument_state", "platform_state"):
        with pytest.raises(Unparsable):
            EVENTS(channel, wire)


def test_the_grammar_has_been_one_since_the_first_recordings() -> None:
    assert venue.events("2021-07-22") is venue.events("2026-11-20")

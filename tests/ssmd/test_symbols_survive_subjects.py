"""Any symbol is one subject token, and comes back from it."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssmd import subjects


@given(st.text(min_size=1, max_size=30))
def test_token_is_reversible_and_safe(symbol: str) -> None:
    try:
        symbol.encode()
    except UnicodeEncodeError:
        return  # no venue can send a lone surrogate in a symbol
    token = subjects.token(symbol)
    assert subjects.symbol(token) == symbol
    assert re.fullmatch(r"[!-~]+", token) and not set(token) & set(".*> ")


def test_known_symbols_stay_readable() -> None:
    assert subjects.token("KXBTCD-26FEB07-T98000") == "KXBTCD-26FEB07-T98000"
    assert subjects.token("T79.9999") == "T79%2E9999"
    assert subjects.token("XBT/USD") == "XBT%2FUSD"


def test_a_symbol_named_all_is_not_every_instrument() -> None:
    assert subjects.token("all") != "all"
    assert subjects.frame("local", "kalshi", "trade", None) == "local.kalshi.json.trade.all"


def test_an_empty_symbol_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        subjects.token("")


def test_names() -> None:
    assert subjects.stream("local", "kraken-futures") == "LOCAL_KRAKEN_FUTURES"
    assert subjects.channel_of("local.kalshi.json.trade.T79%2E9999") == "trade"

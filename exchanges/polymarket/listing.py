"""Polymarket's outcome tokens as instruments: each market has one for each outcome."""

from collections.abc import Mapping, Sequence

import msgspec

from exchanges.instruments import decimal, from_iso, name, text
from exchanges.polymarket import rest
from exchanges.port import Instrument, Request, Status, Unparsable

# Of a market's object, what follows its trading.
_CHANGING = (
    *("best", "last", "spread", "volume", "liquidity", "oneDay", "oneHour", "oneWeek", "oneMonth", "oneYear"),
    *("competitive", "updatedAt", "outcomePrices", "score", "events"),
)


def further(series: Sequence[str]) -> list[Request]:
    """There are none: a market is listed as long as it is not closed."""
    return []


def named(symbols: Sequence[str]) -> list[Request]:
    """Closed markets are listed apart; a token each, for a key that stands twice in a query is not to be had here."""
    query = {"limit": str(rest.MARKETS_PER_PAGE_MAX), "closed": "true"}
    return [Request("GET", "/markets/keyset", {**query, "clob_token_ids": s}, host=rest.GAMMA) for s in symbols]


def instruments_of(record: dict[str, object]) -> list[Instrument]:
    """One for each token. A closed market's token is worth its last price, 1 or 0, once that is final."""
    tokens, outcomes = _texts(record, "clobTokenIds"), _texts(record, "outcomes")
    prices = _texts(record, "outcomePrices")
    question, status = text(record, "question"), _status(record)
    final = status == "settled" and len(prices) == len(tokens)
    slug = text(record, "slug")
    close = from_iso(record.get("endDate"))
    return [
        Instrument(
            symbol=token,
            status=status,
            kind="binary",
            series=(slug,) if slug is not None else (),
            quote="USDC",
            event=name(record, "conditionId"),
            title=": ".join(filter(None, [question, outcomes[i] if i < len(outcomes) else None])) or None,
            tick_size=decimal(record.get("orderPriceMinTickSize")),
            contract_size="1",
            ts_open=from_iso(record.get("startDate")),
            ts_close=close,
            ts_expiry=close,
            ts_settled=from_iso(record.get("closedTime")) if final else None,
            settlement_value=decimal(prices[i]) if final else None,
        )
        for i, token in enumerate(tokens)
    ]


def lasting(record: dict[str, object]) -> Mapping[str, object]:
    return {key: value for key, value in record.items() if not key.startswith(_CHANGING)}


def _status(record: dict[str, object]) -> Status:
    if record.get("closed") is True:
        prices = _texts(record, "outcomePrices")
        return "settled" if prices and all(decimal(p) in {"0", "1", "0.5"} for p in prices) else "closed"
    if record.get("enableOrderBook") is not False and record.get("acceptingOrders") is not False:
        return "open"
    return "paused"


def _texts(record: dict[str, object], key: str) -> list[str]:
    """A list of texts, which the venue writes as a JSON text."""
    value = record.get(key)
    if value is None or value == "":
        return []
    try:
        return msgspec.convert(msgspec.json.decode(value) if isinstance(value, str) else value, list[str])
    except msgspec.DecodeError as e:
        raise Unparsable(f"{key} is no list of texts: {e}") from e

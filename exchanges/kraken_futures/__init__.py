"""Kraken Futures: perpetual and dated contracts on WebSocket v1. Facts stand beside the lines that rest on them."""

from collections.abc import Sequence

from exchanges.kraken.events import Grammar
from exchanges.kraken_futures import events, listing, rest, signing
from exchanges.kraken_futures.adapter import KrakenFuturesAdapter
from exchanges.port import (
    Answer,
    FeesPage,
    Instruments,
    Listing,
    Request,
    Simulation,
    Simulator,
    Subscription,
    TradesPage,
    TradesRequest,
    Unparsable,
    Venue,
    Verdict,
)
from ssmd.errors import SsmdError


class KrakenFutures:
    """The venue as the services see it."""

    listing: Listing = listing

    def adapter(self, subscription: Subscription) -> KrakenFuturesAdapter:
        return KrakenFuturesAdapter(subscription)

    def key(self, key_id: str, secret: bytes) -> signing.Key:
        return signing.Key(key_id, secret)

    def events(self, date: str) -> Grammar:
        return events.grammar(date)

    def instruments(self, series: Sequence[str]) -> list[Request]:
        return rest.instruments(series)

    def instruments_page(self, request: Request, body: bytes) -> Instruments:
        return rest.instruments_page(request, body)

    def trades(self, symbol: str, start_ns: int, end_ns: int) -> TradesRequest | None:
        return rest.trades(symbol, start_ns, end_ns) if symbol else None

    def trades_page(self, request: TradesRequest, body: bytes) -> TradesPage:
        return rest.trades_page(request, body)

    def fees(self, symbols: Sequence[str]) -> list[Request]:
        """There is no schedule to be trusted: /feeschedules is deprecated, and was reported wrong in June 2026."""
        return []

    def fees_page(self, request: Request, body: bytes) -> FeesPage:
        raise Unparsable("Kraken Futures tells of no fees")

    def key_check(self) -> Request:
        return rest.key_check()

    def key_verdict(self, answer: Answer, sent_ns: int, key_id: str = "") -> Verdict:
        return rest.key_verdict(answer, sent_ns)

    def schedule(self) -> None:
        """It never closes; maintenance has no fixed window."""

    def closed(self, schedule: bytes, at_ns: int) -> str | None:
        return None

    def refusal(self, status: int, body: bytes) -> SsmdError:
        return rest.refusal(status, body)

    def simulator(self, simulation: Simulation) -> Simulator:
        from exchanges.kraken_futures.simulator import (  # noqa: PLC0415  # capture does not need it
            KrakenFuturesSimulator,
        )

        return KrakenFuturesSimulator(simulation)


venue: Venue = KrakenFutures()

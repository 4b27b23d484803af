"""Kraken spot: currency pairs on WebSocket v2. Facts and sources stand beside the lines that rest on them."""

from collections.abc import Sequence

from exchanges.kraken import events, listing, rest, signing
from exchanges.kraken.adapter import KrakenAdapter
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
    Venue,
    Verdict,
)
from ssmd.errors import SsmdError


class Kraken:
    """The venue as the services see it."""

    listing: Listing = listing

    def adapter(self, subscription: Subscription) -> KrakenAdapter:
        return KrakenAdapter(subscription)

    def key(self, key_id: str, secret: bytes) -> signing.Key:
        return signing.Key(key_id, secret)

    def events(self, date: str) -> events.Grammar:
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
        return [rest.fees()]

    def fees_page(self, request: Request, body: bytes) -> FeesPage:
        return rest.fees_page(request, body)

    def key_check(self) -> Request:
        return rest.key_check()

    def key_verdict(self, answer: Answer, sent_ns: int, key_id: str = "") -> Verdict:
        return rest.key_verdict(answer, sent_ns)

    def schedule(self) -> None:
        """It never closes; maintenance is announced on WebSocket (`status`) and on a page for people."""

    def closed(self, schedule: bytes, at_ns: int) -> str | None:
        return None

    def refusal(self, status: int, body: bytes) -> SsmdError:
        return rest.refusal(status, body)

    def simulator(self, simulation: Simulation) -> Simulator:
        from exchanges.kraken.simulator import KrakenSimulator  # noqa: PLC0415  # capture does not need it

        return KrakenSimulator(simulation)


venue: Venue = Kraken()

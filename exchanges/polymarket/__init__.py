"""Polymarket's order book (CLOB), market channel: tokens that pay a dollar or nothing, two of them to a question."""

from collections.abc import Sequence

from exchanges.polymarket import events, listing, rest, signing
from exchanges.polymarket.adapter import PolymarketAdapter
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


class Polymarket:
    """The venue as the services see it. Symbols are token ids: texts of up to 78 digits."""

    listing: Listing = listing

    def adapter(self, subscription: Subscription) -> PolymarketAdapter:
        return PolymarketAdapter(subscription)

    def key(self, key_id: str, secret: bytes) -> signing.Key:
        return signing.Key(key_id, secret)

    def events(self, date: str) -> events.Grammar:
        return events.Grammar()

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

    def schedule(self) -> Request | None:
        """It never closes, and announces maintenance elsewhere."""
        return None

    def closed(self, schedule: bytes, at_ns: int) -> str | None:
        return None

    def refusal(self, status: int, body: bytes) -> SsmdError:
        return rest.refusal(status, body)

    def simulator(self, simulation: Simulation) -> Simulator:
        from exchanges.polymarket.simulator import PolymarketSimulator  # noqa: PLC0415  # capture does not need it

        return PolymarketSimulator(simulation)


venue: Venue = Polymarket()

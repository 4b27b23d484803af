"""A Binance product as the services see it."""

from collections.abc import Sequence

from exchanges.binance import events, listing, rest, signing
from exchanges.binance.adapter import BinanceAdapter
from exchanges.binance.product import Product
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
    Verdict,
)
from ssmd.errors import SsmdError


class Binance:
    """The venue's grammars for one product."""

    listing: Listing = listing

    def __init__(self, product: Product) -> None:
        self.product = product

    def adapter(self, subscription: Subscription) -> BinanceAdapter:
        return BinanceAdapter(self.product, subscription)

    def key(self, key_id: str, secret: bytes) -> signing.Key:
        return signing.Key(key_id, secret)

    def events(self, date: str) -> events.Grammar:
        return events.GRAMMAR

    def instruments(self, series: Sequence[str]) -> list[Request]:
        return rest.instruments(self.product, series)

    def instruments_page(self, request: Request, body: bytes) -> Instruments:
        return rest.instruments_page(request, body)

    def trades(self, symbol: str, start_ns: int, end_ns: int) -> TradesRequest | None:
        return rest.trades(self.product, symbol, start_ns, end_ns) if symbol else None

    def trades_page(self, request: TradesRequest, body: bytes) -> TradesPage:
        return rest.trades_page(request, body)

    def fees(self, symbols: Sequence[str]) -> list[Request]:
        return rest.fees(self.product, symbols)

    def fees_page(self, request: Request, body: bytes) -> FeesPage:
        return rest.fees_page(request, body)

    def key_check(self) -> Request:
        return rest.key_check(self.product)

    def key_verdict(self, answer: Answer, sent_ns: int, key_id: str = "") -> Verdict:
        return rest.key_verdict(answer, sent_ns)

    def schedule(self) -> Request | None:
        return None

    def closed(self, schedule: bytes, at_ns: int) -> str | None:
        return None

    def refusal(self, status: int, body: bytes) -> SsmdError:
        return rest.refusal(status, body)

    def simulator(self, simulation: Simulation) -> Simulator:
        from exchanges.binance.simulator import BinanceSimulator  # noqa: PLC0415  # capture does not need it

        return BinanceSimulator(self.product, simulation)

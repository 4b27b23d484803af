"""A reader of events that keeps books, as any subscriber would: for tests that hold them against something."""

from collections.abc import Iterable
from decimal import Decimal

from ssmd.events import BookDelta, BookSnapshot, Event

Levels = dict[Decimal, Decimal]


class Books:
    """Price -> size for both sides of each instrument, from snapshots and deltas alone."""

    def __init__(self) -> None:
        self.sides: dict[str, dict[str, Levels]] = {}

    def take(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, BookSnapshot):
                self.sides[event.symbol] = {
                    side: {Decimal(price): Decimal(size) for price, size in levels}
                    for side, levels in (("bid", event.bids), ("ask", event.asks))
                }
            elif isinstance(event, BookDelta) and event.symbol in self.sides:
                assert event.size is not None
                levels = self.sides[event.symbol][event.side]
                if Decimal(event.size):
                    levels[Decimal(event.price)] = Decimal(event.size)
                else:
                    levels.pop(Decimal(event.price), None)

    def best(self, symbol: str) -> tuple[Decimal | None, Decimal | None]:
        bids, asks = self.sides[symbol]["bid"], self.sides[symbol]["ask"]
        return max(bids, default=None), min(asks, default=None)

    def crossed(self) -> list[str]:
        """Instruments whose best bid is not below their best ask."""
        found = []
        for symbol in self.sides:
            bid, ask = self.best(symbol)
            if bid is not None and ask is not None and bid >= ask:
                found.append(symbol)
        return found

"""Binance USD-M futures, the public route: order books, best prices, and the raw trades that no document names.

The grammars are those of `exchanges.binance`; `market` is the other route.
"""

from exchanges.binance.product import USDM_PUBLIC
from exchanges.binance.venue import Binance
from exchanges.port import Venue

venue: Venue = Binance(USDM_PUBLIC)

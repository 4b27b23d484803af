"""Binance USD-M futures, the market route: aggregate trades, mark prices, forced orders, statistics, listings."""

from exchanges.binance.product import USDM_MARKET
from exchanges.binance.venue import Binance
from exchanges.port import Venue

venue: Venue = Binance(USDM_MARKET)

"""Binance: spot, and USD-M futures in `usdm`. Facts and sources beside the lines that rest on them, and in
evidence.yaml."""

from exchanges.binance.product import SPOT
from exchanges.binance.venue import Binance
from exchanges.port import Venue

venue: Venue = Binance(SPOT)

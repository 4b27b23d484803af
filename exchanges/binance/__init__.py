"""Binance: spot; USD-M futures speak the same grammars (`exchanges.binance_usdm`). What is known of each message, and
from where, is in evidence.yaml."""

from exchanges.binance.product import SPOT
from exchanges.binance.venue import Binance
from exchanges.port import Venue

venue: Venue = Binance(SPOT)

"""python cryptofeed_client.py PORT COUNT FOLDER BASE,BASE…: cryptofeed's Binance feed, pointed at a local server.

Runs in an environment of its own, without ssmd. The feed is what the package ships: it parses each message and makes
its typed objects. Of its ways to keep what came, the raw file is used (`raw_data_collection`): the only one that syncs,
each 10,000 messages; it has no NATS backend. It insists on wss addresses, so these are changed once it has made its
connections; the list of symbols, for which it would ask REST, is given.
"""

import asyncio
import sys
import time

from cryptofeed import FeedHandler
from cryptofeed.connection import WebsocketEndpoint
from cryptofeed.defines import TICKER, TRADES
from cryptofeed.exchanges import Binance
from cryptofeed.raw_data_collection import AsyncFileCallback
from cryptofeed.symbols import Symbols

_, PORT, COUNT, FOLDER, BASES = sys.argv
seen = 0


class LocalBinance(Binance):
    websocket_endpoints = [WebsocketEndpoint(f"wss://127.0.0.1:{PORT}")]  # noqa: RUF012

    def connect(self):
        made = super().connect()
        for connection, *_ in made:
            connection.address = connection.address.replace("wss://", "ws://")
        return made


async def on_event(event, receipt_timestamp):
    global seen  # noqa: PLW0603
    seen += 1
    if seen == int(COUNT):
        print("done", time.monotonic_ns(), flush=True)


symbols = {f"{base}-USDT": f"{base}USDT" for base in BASES.split(",")}
Symbols.set(LocalBinance.id, symbols, {"instrument_type": {}})
handler = FeedHandler({"uvloop": True, "log": {"disabled": True}}, AsyncFileCallback(FOLDER))
wanted = {TRADES: on_event, TICKER: on_event}
handler.add_feed(LocalBinance(symbols=list(symbols), channels=list(wanted), callbacks=wanted))
asyncio.set_event_loop(asyncio.new_event_loop())  # it asks for one that uvloop no longer makes
handler.run()

"""Socket → kept, beside cryptofeed: each with its own venue, its own way to keep frames, on its own terms."""

import random
import time
from pathlib import Path

import msgspec

from bench import corpus, ingest, parts
from bench.figures import Measured, Row
from bench.size import Size

PYTHON = parts.ROOT / ".venv-peers/bin/python"
BASES = ("BTC", "ETH", "SOL", "XRP", "ADA", "DOGE", "LTC", "DOT", "LINK", "AVAX")
WAY = "cryptofeed: Binance feed, its raw file"
NOTE = "on its own terms: Binance trades and tickers, parsed, synced each 10,000 frames"


def run(size: Size) -> Measured:
    if not PYTHON.exists():
        raise parts.Failed("cryptofeed is not installed: `make bench-peers` does it, apart from ssmd")
    rates: ingest.Rates = {"ours": [], "cryptofeed": []}
    with parts.scratch() as folder:
        kalshi, binance = corpus.make(ingest.BODY_FRAMES, ingest.MARKETS), made_binance(ingest.BODY_FRAMES)
        for number in range(size.rounds):
            for way, frames in (("ours", kalshi), ("cryptofeed", binance)):
                place = folder / f"{way}-{number}"
                place.mkdir()
                with parts.Blaster(place, frames) as blaster:
                    if way == "ours":
                        rates[way].append(ingest.once(way, place, blaster, frames, size.frames))
                    else:
                        rates[way].append(once(place, blaster, size.frames))
    ours, theirs = rates["ours"], rates["cryptofeed"]
    what = "socket → kept"
    return Measured(
        [
            Row(what, "frames/s", [a for a, _ in ours], WAY, [a for a, _ in theirs], note=NOTE),
            Row(what, "frames per core-second", [b for _, b in ours], WAY, [b for _, b in theirs], note=NOTE),
        ]
    )


def once(folder: Path, blaster: parts.Blaster, count: int) -> tuple[float, float]:
    script = str(Path(__file__).with_name("cryptofeed_client.py"))
    command = [str(PYTHON), "-P", script, str(blaster.port), str(count), str(folder), ",".join(BASES)]
    with parts.Part("cryptofeed", command, folder) as client:
        blaster.told("connected")
        time.sleep(0.2)  # it has asked for its subscription with its address: nothing more comes
        cpu = client.cpu_seconds
        blaster.send(count)
        done = int(client.told("done", 120)[0])
        cpu = client.cpu_seconds - cpu
        first = blaster.sent()
    return count / ((done - first) / 1e9), count / cpu


def made_binance(count: int) -> corpus.Corpus:
    """Half aggregated trades, half best quotes, as Binance's combined streams have them."""
    chance = random.Random(1)
    body = []
    for number in range(count):
        base = chance.choice(BASES)
        symbol, price, at = f"{base}USDT", chance.randint(100, 9_999_999), 1_786_406_400_000 + number // 10
        size = f"{chance.randint(1, 999_999) / 1e5:.8f}"
        if number % 2:
            stream = f"{symbol.lower()}@bookTicker"
            data: dict[str, object] = {
                "u": 400_900_217 + number,
                "s": symbol,
                "b": f"{price / 100:.8f}",
                "B": size,
                "a": f"{(price + 1) / 100:.8f}",
                "A": size,
            }
        else:
            stream = f"{symbol.lower()}@aggTrade"
            data = {
                "e": "aggTrade",
                "E": at,
                "s": symbol,
                "a": 164_325_512 + number,
                "p": f"{price / 100:.8f}",
                "q": size,
                "f": 182_000_000 + number,
                "l": 182_000_000 + number,
                "T": at,
                "m": chance.random() < 0.5,
                "M": True,
            }
        body.append(msgspec.json.encode({"stream": stream, "data": data}))
    return corpus.Corpus(list(BASES), [], body)

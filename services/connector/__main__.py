"""python -m services.connector --data DIR --feed NAME"""

import asyncio
import importlib

import httpx

from services.connector.connector import Connector
from ssmd import config, service
from ssmd.clock import Clock, RecordedClock, SystemClock
from ssmd.durable import DiskFailed
from ssmd.errors import Permanent, Transient
from ssmd.telemetry import Telemetry, configure_logging


def main() -> None:
    parser = service.options("connector", "Hold a venue's WebSocket; journal and publish every frame.")
    parser.add_argument("--clock", choices=["now", "recorded"], default="now", help="whose time frames get")
    parser.add_argument("--shard", type=int, default=0, help="which of the environment's shards of this feed")
    args = parser.parse_args()

    async def run(stop: asyncio.Event) -> None:
        addresses = service.addresses(args.data, args.env)
        environment = config.load_environment(addresses.environment)
        feed = config.load_feed(args.feed)
        venue = importlib.import_module(f"exchanges.{feed.venue}").venue
        clock: Clock = SystemClock()
        if args.clock == "recorded":
            clock = RecordedClock(await _first_ns(addresses, feed.name))
        log = configure_logging(service="connector", feed=feed.name, **({"shard": args.shard} if args.shard else {}))
        connector = Connector(environment, feed, addresses, args.data, venue, clock, log, args.shard)
        telemetry = Telemetry("connector")
        await telemetry.serve(args.host, args.port)
        try:
            await connector.run(stop, telemetry)
        except DiskFailed as e:
            await telemetry.last_words(e)
            raise
        await telemetry.close()

    service.run(run)


async def _first_ns(addresses: config.Addresses, feed: str) -> int:
    """When the recording that is being replayed begins; only its simulator knows."""
    where = addresses.telemetry.get(f"simulator-{feed}")
    if where is None:
        raise Permanent(f"--clock recorded: no simulator of {feed} is running: start the platform with `ssmd up`")
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            tape = (await client.get(f"{where}/status")).json()["tape"]
        except (httpx.HTTPError, ValueError, KeyError) as e:
            raise Transient(f"--clock recorded: the simulator at {where} does not answer ({e})") from e
    if tape is None:
        raise Permanent(f"--clock recorded: the simulator of {feed} replays no recording: give one with --replay")
    return int(tape["first_ns"])


if __name__ == "__main__":
    main()

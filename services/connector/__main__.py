"""python -m services.connector --data DIR --feed NAME"""

import asyncio
import importlib

from services.connector.connector import Connector
from ssmd import config, service
from ssmd.clock import Clock, RecordedClock, SystemClock
from ssmd.telemetry import Telemetry, configure_logging


def main() -> None:
    parser = service.options("connector", "Hold a venue's WebSocket; journal and publish every frame.")
    parser.add_argument("--clock", choices=["now", "recorded"], default="now", help="whose time frames get")
    args = parser.parse_args()

    async def run(stop: asyncio.Event) -> None:
        addresses = service.addresses(args.data, args.env)
        environment = config.load_environment(addresses.environment)
        feed = config.load_feed(args.feed)
        venue = importlib.import_module(f"exchanges.{feed.venue}").venue
        clock: Clock = RecordedClock(0) if args.clock == "recorded" else SystemClock()
        log = configure_logging(service="connector", feed=feed.name)
        connector = Connector(environment, feed, addresses, args.data, venue, clock, log)
        telemetry = Telemetry("connector")
        await telemetry.serve("127.0.0.1", args.port)
        await connector.run(stop, telemetry)
        await telemetry.close()

    service.run(run)


if __name__ == "__main__":
    main()

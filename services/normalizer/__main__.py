"""python -m services.normalizer --data DIR --feed NAME"""

import asyncio
import importlib

from services.normalizer.normalizer import Normalizer
from ssmd import config, service
from ssmd.telemetry import Telemetry, configure_logging


def main() -> None:
    parser = service.options("normalizer", "Publish what a feed's frames say, as Cap'n Proto.")
    parser.add_argument("--name", help="what subjects begin with (default: the environment; a replay's: replay)")
    args = parser.parse_args()

    async def run(stop: asyncio.Event) -> None:
        addresses = service.addresses(args.data, args.env)
        feed = config.load_feed(args.feed)
        venue = importlib.import_module(f"exchanges.{feed.venue}").venue
        log = configure_logging(service="normalizer", feed=feed.name)
        normalizer = Normalizer(args.name or addresses.environment, feed.name, venue, addresses.nats, log)
        telemetry = Telemetry("normalizer")
        await telemetry.serve(args.host, args.port)
        await normalizer.run(stop, telemetry)
        await telemetry.close()

    service.run(run)


if __name__ == "__main__":
    main()

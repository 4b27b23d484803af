"""python -m services.archiver --data DIR --feed NAME"""

import asyncio

from services.archiver.archiver import Archiver
from ssmd import config, service
from ssmd.durable import DiskFailed
from ssmd.telemetry import Telemetry, configure_logging


def main() -> None:
    args = service.options("archiver", "Keep every frame of a feed's stream in JSONL.gz segments.").parse_args()

    async def run(stop: asyncio.Event) -> None:
        addresses = service.addresses(args.data, args.env)
        environment = config.load_environment(addresses.environment)
        environment.feed(args.feed)
        log = configure_logging(service="archiver", feed=args.feed)
        archiver = Archiver(environment, args.feed, addresses.nats, args.data / "archive", log)
        telemetry = Telemetry("archiver")
        await telemetry.serve(args.host, args.port)
        try:
            await archiver.run(stop, telemetry)
        except DiskFailed as e:
            await telemetry.last_words(e)
            raise
        await telemetry.close()

    service.run(run)


if __name__ == "__main__":
    main()

"""python -m services.replayer --data DIR --feed NAME --date DATE [--nats URL] [--speed N|max]"""

import argparse
import asyncio
import contextlib
import importlib
import math

from services.replayer.replayer import Replayer
from ssmd import config, past_day, replaying, service


def main() -> None:
    args = _options().parse_args()

    async def run(stop: asyncio.Event) -> None:
        feed = config.load_feed(args.feed)
        url = args.nats or service.addresses(args.data, args.env).nats
        venue = importlib.import_module(f"exchanges.{feed.venue}").venue
        replayer = Replayer(args.name, feed, venue, None if args.speed == math.inf else args.speed)
        await replayer.connect(url)
        with contextlib.ExitStack() as stack:
            try:
                places, store = await asyncio.to_thread(past_day.where, args.store or args.data)
                opening = past_day.opened(places, feed.name, args.date, replaying.teller(stop), store)
                day = await asyncio.to_thread(stack.enter_context, opening)
            except replaying.Interrupted:
                return
            finally:
                if stop.is_set():
                    await replayer.close()
            replaying.tell_unsealed(day)
            replaying.tell(await replayer.play(day, args.from_ns, args.until_ns, stop))

    service.run(run)


def _options() -> argparse.ArgumentParser:
    parser = service.options("replayer", "Publish a past day's frames once more.")
    parser.add_argument("--date", required=True, help="the day")
    parser.add_argument("--store", metavar="URL", help="where it is published, if not in the data folder")
    parser.add_argument("--nats", metavar="URL", help="where to publish (default: where the environment does)")
    parser.add_argument("--name", default="replay", help="what the subjects begin with (default: replay)")
    parser.add_argument("--speed", type=float, default=1.0, help="a factor; inf: as fast as it goes")
    parser.add_argument("--from-ns", type=int, default=0, help="what came before is left out")
    parser.add_argument("--until-ns", type=int, default=1 << 62, help="as is what came from then on")
    return parser


if __name__ == "__main__":
    main()

"""python -m services.simulator --data DIR --feed NAME --listen PORT [--replay FILE ... | --archive DATE]"""

import argparse
import asyncio
import importlib
import math
from collections.abc import Callable
from pathlib import Path

from exchanges.port import Simulation, Simulator
from services.simulator import faults, replaying
from services.simulator.faults import Faults
from services.simulator.line import Line
from services.simulator.player import MarketPlayer, TapePlayer
from services.simulator.server import SimulatorServer
from services.simulator.tape import Tape
from ssmd import config, service
from ssmd.clock import SystemClock
from ssmd.durable import Appender
from ssmd.errors import Permanent
from ssmd.telemetry import Telemetry, configure_logging

AS_FAST_AS_IT_GOES = "max"


def main() -> None:
    args = _options().parse_args()

    async def run(stop: asyncio.Event) -> None:
        feed = config.load_feed(args.feed)
        if args.archive is not None:
            await replaying.serve(args, feed, _factor(args.speed), stop)
            return
        log = configure_logging(service="simulator", feed=feed.name)
        if args.clock == "recorded" and not args.replay:
            raise Permanent("--clock recorded needs a recording: name one with --replay")
        simulator = _simulator(args, feed.venue)
        truth = None if args.truth is None else Appender(args.truth)
        wall_ns = SystemClock().now_ns
        faulty = None if args.faults is None else Faults(args.faults)
        player = _player(args, simulator, wall_ns)
        server = SimulatorServer(simulator, player, truth, wall_ns, args.clock == "recorded", log, faulty)
        listen = await server.start(args.listen)
        telemetry = Telemetry("simulator")
        telemetry.status = lambda: {"venue": feed.venue, "listen": listen, **server.status()}
        telemetry.gauges("ssmd_simulator", server.figures)
        await telemetry.serve(args.host, args.port)
        log.info("listening", port=listen, replay=[str(path) for path in args.replay], speed=str(args.speed))
        try:
            await server.wait(stop)
        finally:
            await server.close()
            await telemetry.close()

    service.run(run)


def _options() -> argparse.ArgumentParser:
    parser = service.options("simulator", "Play a venue: WebSocket and REST on one port.")
    parser.add_argument("--listen", type=int, default=0, help="the venue's port (0: any free one)")
    parser.add_argument(
        "--replay",
        type=Path,
        action="append",
        default=[],
        help="a recording to replay, repeated for those that follow; without one the markets are made up",
    )
    parser.add_argument("--archive", metavar="DATE", help="an archived day to serve, until it is over")
    parser.add_argument("--store", metavar="URL", help="where that day is published, if not in the data folder")
    parser.add_argument("--from-ns", type=int, default=0, help="what came before only changes the books")
    parser.add_argument("--until-ns", type=int, default=1 << 62, help="what came from then on is left out")
    parser.add_argument("--speed", type=_speed, default=1.0, help="of the replay: a factor, or `max`")
    parser.add_argument("--clock", choices=["now", "recorded"], default="now", help="whose time frames get")
    parser.add_argument("--truth", type=Path, help="write every frame here before it is sent")
    parser.add_argument("--seed", type=int, default=0, help="of made-up markets")
    parser.add_argument("--markets", type=_positive, default=12, help="how many to make up")
    parser.add_argument("--rate", type=float, default=200.0, help="frames per second of made-up markets")
    parser.add_argument("--turnover", type=float, help="seconds after which a made-up market goes and another comes")
    parser.add_argument(
        "--faults",
        type=faults.parse,
        metavar="SEED:EVERY[:KINDS[:AFTER]]",
        help=f"a fault every so many frames, of these kinds, not in the first frames ({','.join(faults.KINDS)})",
    )
    parser.add_argument("--key-id", help="the only API key that is accepted")
    parser.add_argument("--public-key", type=Path, help="its public key (PEM); without it nothing is verified")
    return parser


def _factor(speed: float) -> float | None:
    """As a player takes it: None is as fast as it goes."""
    return None if speed == math.inf else speed


def _speed(text: str) -> float:
    """`max` is infinite."""
    factor = math.inf if text == AS_FAST_AS_IT_GOES else float(text)
    if not factor > 0:
        raise argparse.ArgumentTypeError("a speed is a factor above 0, or `max`")
    return factor


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _simulator(args: argparse.Namespace, venue: str) -> Simulator:
    public_key = None
    if args.public_key is not None:
        try:
            public_key = args.public_key.read_bytes()
        except OSError as e:
            raise Permanent(f"cannot read the public key {args.public_key}: {e.strerror}") from e
    if not 0 < args.rate <= 1_000_000:
        raise Permanent(f"--rate {args.rate:g} is not between 0 and 1000000 frames per second")
    if args.turnover is not None and not args.turnover > 0:
        raise Permanent(f"--turnover {args.turnover:g} is no time in seconds")
    simulation = Simulation(
        key_id=args.key_id,
        public_key=public_key,
        seed=args.seed,
        markets=args.markets,
        frames_per_second=args.rate,
        turnover_seconds=args.turnover,
    )
    simulator: Simulator = importlib.import_module(f"exchanges.{venue}").venue.simulator(simulation)
    return simulator


def _player(
    args: argparse.Namespace, simulator: Simulator, wall_ns: Callable[[], int]
) -> Callable[[Callable[[], list[Line]]], TapePlayer | MarketPlayer]:
    def player(lines: Callable[[], list[Line]]) -> TapePlayer | MarketPlayer:
        if not args.replay:
            return MarketPlayer(simulator, lines, wall_ns)
        tape = Tape(args.replay, simulator.record)
        return TapePlayer(tape, simulator, lines, _factor(args.speed), None if args.clock == "recorded" else wall_ns)

    return player


if __name__ == "__main__":
    main()

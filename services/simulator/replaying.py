"""A past day from the archive, served as its venue did: to whoever connects, until it is over."""

import argparse
import asyncio
import contextlib
import importlib
import logging
from urllib.parse import urlsplit

from exchanges.port import Simulation, Simulator
from services.simulator.player import TapePlayer
from services.simulator.server import HOST, SimulatorServer
from services.simulator.tape import ArchiveTape
from ssmd import config, past_day, replaying
from ssmd.clock import SECOND_NS, SystemClock
from ssmd.durable import Appender
from ssmd.errors import Permanent
from ssmd.replaying import Replayed, Told
from ssmd.telemetry import configure_logging


async def serve(args: argparse.Namespace, feed: config.Feed, speed: float | None, stop: asyncio.Event) -> None:
    """Serve `args.archive`, a date, from the data folder or `args.store`; no client's signature is checked."""
    log = configure_logging(logging.WARNING, service="simulator", feed=feed.name)
    wall_ns = SystemClock().now_ns
    look = replaying.teller(stop)
    with contextlib.ExitStack() as stack:
        try:
            places, store = await asyncio.to_thread(past_day.where, args.store or args.data)
            opening = past_day.opened(places, feed.name, args.archive, look, store)
            day = await asyncio.to_thread(stack.enter_context, opening)
            replaying.tell_unsealed(day)
            simulation = Simulation(recorded=day.subscribed)
            simulator: Simulator = importlib.import_module(f"exchanges.{feed.venue}").venue.simulator(simulation)
            tape = await asyncio.to_thread(ArchiveTape, day, simulator.archived, args.until_ns, look)
        except replaying.Interrupted:
            return
        truth = None if args.truth is None else stack.enter_context(contextlib.closing(Appender(args.truth)))
        server = SimulatorServer(
            simulator,
            lambda lines: TapePlayer(tape, simulator, lines, speed, wall_ns=None),
            truth,
            wall_ns,
            recorded=True,
            log=log,
        )
        player = server.player
        assert isinstance(player, TapePlayer)
        await player.begin_at(args.from_ns)
        if player.done:
            raise Permanent(f"{args.archive} of {feed.name} has no market data so late: let it begin earlier")
        port = await server.start(args.listen)
        tell_where(feed, simulator.ws_path, port)
        try:
            await server.wait(stop, server.played_out(), _tell(player, tape, speed))
        finally:
            await server.close()
        contents = tape.contents()
        replaying.tell(
            Replayed(
                feed=feed.name,
                date=args.archive,
                to="ws",
                frames=player.sent - player.passed_over,
                sent=server.played,
                left_out=dict(tape.unknown),
                seconds=player.seconds,
                recorded_seconds=max(0, player.now_ns() - max(player.began_ns, contents.first_ns)) / SECOND_NS,
                complete=player.done,
            )
        )


def tell_where(feed: config.Feed, ws_path: str, port: int) -> None:
    """Where clients connect: the venue's own paths on our port."""
    rest = urlsplit(next(iter(feed.versions[-1].endpoints.values())).rest).path
    replaying.tell(Told(f"listening at ws://{HOST}:{port}{ws_path}, REST at http://{HOST}:{port}{rest}"))


async def _tell(player: TapePlayer, tape: ArchiveTape, speed: float | None) -> None:
    contents = tape.contents()
    while True:
        done, total = player.sent - player.passed_over, contents.frames - player.passed_over
        at_ns = player.now_ns()
        left = replaying.seconds_left(at_ns, contents.last_ns, speed, done, total, player.seconds)
        doing = "serving" if player.playing.is_set() or player.done else "waiting for a subscription"
        replaying.tell(Told(doing, done, total, at_ns, left))
        await asyncio.sleep(replaying.TELL_SECONDS)

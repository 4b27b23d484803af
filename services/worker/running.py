"""The worker: at Temporal, or one job without a server."""

import asyncio
import sys
from pathlib import Path

from activities.processes import Processes
from services.worker.local import Local
from services.worker.probing import Probing
from services.worker.serving import Serving
from services.worker.steps import steps
from ssmd import config, service, storage
from ssmd.telemetry import Telemetry, configure_logging

GRACE_SECONDS = 20.0  # an hour of frames takes seconds; longer ones are done again by the next worker


def main() -> None:
    parser = service.options("worker", "Run workflows and activities.", feed=False)
    parser.add_argument("--grace", type=float, default=GRACE_SECONDS, help="seconds that running steps get to end")
    parser.add_argument(
        "--local",
        nargs=2,
        metavar=("TYPE", "JSON"),
        help='run one job here, without a server: RollupDay \'{"feed":"kalshi","date":"2026-11-20"}\'',
    )
    args = parser.parse_args()

    async def serve(stop: asyncio.Event) -> None:
        addresses = service.addresses(args.data, args.env)
        environment = config.load_environment(addresses.environment)
        temporal = environment.temporal.model_copy(update={"address": addresses.temporal})
        log = configure_logging(service="worker")
        telemetry = Telemetry("worker")
        with Processes(environment.rolling_up.processes) as processes:
            activities = steps(config.Places(args.data), addresses, processes, environment.rolling_up)
            serving = Serving(temporal, activities, processes.count, args.grace, log)
            probing = None
            if (wanted := environment.storage) is not None:
                probe = Probing(lambda: storage.open_store(wanted, args.data, addresses.storage), log)
                serving.also = probe.problems
                probing = asyncio.create_task(probe.run())
            await telemetry.serve(args.host, args.port)
            await serving.run(stop, telemetry)
            if probing is not None:
                probing.cancel()
            await telemetry.close()

    async def run_here(stop: asyncio.Event) -> None:
        addresses = _addresses_if_any(args.data, args.env)
        rolling_up = config.load_environment(addresses.environment).rolling_up
        job, given = args.local
        with Processes(rolling_up.processes) as processes:
            activities = steps(config.Places(args.data), addresses, processes, rolling_up)
            answer = await Local(activities).run(job, given, stop)
        sys.stdout.write(answer.decode() + "\n")

    service.run(run_here if args.local else serve)


def _addresses_if_any(data: Path, env: str | None) -> config.Addresses:
    """A local job needs no platform; without one of this folder's own there is nobody to ask for a seal."""
    places = config.Places(data)
    places.check()
    running = config.load_addresses(data)
    known = running.environment if running is not None else places.environment()
    environment = config.load_environment(env or known or "local")
    if running is None and environment.servers == "local":
        return config.Addresses(environment.name, "", "", "", {}, {})
    return service.addresses(data, env)

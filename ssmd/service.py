"""How every service starts and ends: its options, its signals, its exit code.

    python -m services.NAME --data DIR [--env NAME] [--feed NAME] [--host ADDRESS] [--port N] …

Addresses come from `{data}/run/addresses.json` where an `ssmd up` wrote it, else from the environment's YAML,
so a service of a running platform can be started again by hand with `--data` alone.
"""

import argparse
import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import uvloop

from ssmd import config
from ssmd.durable import DiskFailed
from ssmd.errors import Interrupted, Permanent, SsmdError
from ssmd.leave import leave

EXIT_INPUT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_DISK = 74  # EX_IOERR: its supervisor knows that starting again needs space, not luck


def options(name: str, purpose: str, *, feed: bool = True) -> argparse.ArgumentParser:
    """The options every service has."""
    parser = argparse.ArgumentParser(prog=f"python -m services.{name}", description=purpose)
    parser.add_argument("--data", type=Path, default=Path("data"), help="the data folder (default: data)")
    parser.add_argument(
        "--env", default=None, help="the environment (default: that of the running `ssmd up`, else local)"
    )
    parser.add_argument(
        "--port",
        type=int,
        default=0,
        help="where /health, /ready, /metrics, /status listen (0: any free port)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address they listen on (default: 127.0.0.1)")
    if feed:
        parser.add_argument("--feed", required=True, help="the feed")
    return parser


def addresses(data: Path, env: str | None) -> config.Addresses:
    """Where everything listens: as the running `ssmd up` says, or, if its servers are elsewhere, the environment."""
    config.Places(data).check()
    running = config.load_addresses(data)
    if running is not None and env in {None, running.environment} and alive(running.supervisor):
        return running
    environment = config.load_environment(env or "local")
    if environment.servers == "local":  # its default ports may be those of another data folder's platform
        raise Permanent(f"no platform is running on the data folder {data}: start one with `ssmd up --data {data}`")
    return config.Addresses(environment.name, environment.nats.url, environment.temporal.address, "", {}, {})


def alive(process: int) -> bool:
    """Whether the `ssmd up` that wrote the addresses still runs; if not, others may listen there by now."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> NoReturn:
    """Run a service until it returns; SIGTERM and SIGINT set the event it is given. Never returns."""
    leave(uvloop.run(_supervised(main)))


async def _supervised(main: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    gc.freeze()  # what start-up made lives for ever: keep it out of every later collection
    try:
        await main(stop)
    except DiskFailed as e:
        sys.stderr.write(f"error: {e}\n")
        return EXIT_DISK
    except Interrupted as e:
        sys.stderr.write(f"{e}\n")
        return EXIT_INTERRUPTED
    except SsmdError as e:
        sys.stderr.write(f"error: {e}\n")
        return EXIT_INPUT
    return 0

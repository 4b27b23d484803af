"""A network that cuts, resets, half-closes, swallows or crawls, between any two parts, loses and doubles nothing."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest

from .proxy import FAULTS, Proxy
from .rig import platform

RATE = 5000.0
LINKS = {"venue": "venue", "connector-nats": "nats", "archiver-nats": "nats"}


@pytest.mark.timeout(600)
def test_a_broken_network_loses_and_doubles_nothing(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    chance = Random(seed)
    plan = [(link, fault) for link in LINKS for fault in FAULTS]
    chance.shuffle(plan)
    if not full:
        plan = [("venue", "cut"), ("venue", "black-hole"), ("connector-nats", "reset"), ("archiver-nats", "half-close")]
    with ExitStack() as stack:
        run = stack.enter_context(platform(tmp_path, seed=seed, rate=RATE, silence_seconds=5.0))
        proxies = {link: stack.enter_context(Proxy(run.ports[server])) for link, server in LINKS.items()}
        run.via |= {link: proxy.port for link, proxy in proxies.items()}
        run.start()
        for link, fault in plan:
            print(f"{fault} between {link}")
            proxies[link].fault(fault)
            lasting = fault in {"black-hole", "slow"}
            time.sleep(chance.uniform(6.0, 9.0) if lasting else chance.uniform(0.3, 1.5))
            proxies[link].mend()
            run.flowing(f"a {fault} between {link}")
        run.rest()
        found = run.account()
        assert found.whole, f"{found}\n{run.logs()}"
        assert {"disconnect"} <= {gap.cause for gap in found.gaps}
        control = run.account(without_ledger=True)
        assert control.unaccounted == found.in_ledger > 0
        reliability(
            "A broken network loses and doubles nothing",
            f"{len(plan)} times {', '.join(FAULTS)} on {', '.join(LINKS)}: {found}",
            f"without the ledger {control.unaccounted} unaccounted",
        )

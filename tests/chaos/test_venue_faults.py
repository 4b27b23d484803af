"""Every fault that a venue's side injects is in the ledger within 6 s; clean data has no gap at all."""

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .accounts import Account, Fault, Gap
from .rig import Platform, platform

LEDGER_NS = 6_000_000_000
SOONER_NS = 50_000_000  # a gap begins at the last good frame, which may be read after the venue stamped the fault
# Those that a venue numbers: in others a skipped frame leaves no trace.
CHANNELS = {
    "kalshi": ("orderbook_delta", "trade"),
    "deribit": ("book.{instrument_name}.100ms", "trades.{instrument_name}.100ms"),
    "kraken": ("book.10", "trade"),
    "kraken-futures": ("book", "trade"),
    "binance": ("depth@100ms", "trade"),
}
FAULTS = {"kalshi": 60, "deribit": 50, "kraken": 50, "kraken-futures": 60, "binance": 30}  # of each; about as long
SHORT = {"kalshi": 12}
RATE = 2000
BUT_STALE = ("skip", "duplicate", "swap", "cut", "oversized", "garbage")
CAUSES = {
    "skip": {"sequence", "checksum"},
    "swap": {"sequence", "checksum"},
    "stale": {"stale", "disconnect"},
    "cut": {"disconnect"},
    "oversized": {"disconnect"},
    "garbage": {"parse"},
}


def in_time(fault: Fault, gaps: list[Gap]) -> bool:
    """A gap of the right cause and instrument that covers the fault, or begins just after it, was told within 6 s."""
    return any(
        gap.cause in CAUSES[fault.kind]
        and (not gap.symbols or fault.symbol in gap.symbols)
        and gap.start <= fault.ts + LEDGER_NS
        and gap.end >= fault.ts - SOONER_NS
        and gap.told <= fault.ts + LEDGER_NS
        for gap in gaps
    )


def unnoticed(found: Account, run: Platform) -> list[Fault]:
    """The faults that the ledger does not have in time; of duplicates, those that the connector did not warn of.

    What leaves no trace in what the venue sends cannot be there (`Fault.overwritten`), and is counted by itself.
    """
    warned = [
        json.loads(line) for line in run.parts["connector"].log.read_text().splitlines() if "again or late" in line
    ]
    seconds = [time.mktime(time.strptime(w["timestamp"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone for w in warned]
    missed = []
    for fault in found.faults:
        if fault.kind == "duplicate":
            noticed = any(-2 < s - fault.ts / 1e9 < 3 for s in seconds)
        else:
            noticed = in_time(fault, found.gaps)
        if not noticed and not fault.overwritten():
            missed.append(fault)
    return missed


def run_with_faults(run: Platform, wanted: int, seconds: float) -> Account:
    run.start()
    run.until(lambda: run.status("simulator").get("faults", 0) >= wanted, f"{wanted} faults are injected", seconds)
    time.sleep(6.0)  # the last one's time
    run.rest()
    return run.account()


def harmed(folder: Path, feed: str, seed: int, wanted: int, faults: str) -> tuple[str, str]:
    """One venue's figure, and its control's."""
    folder.mkdir()
    with platform(folder, feed=feed, seed=seed, rate=RATE, channels=CHANNELS[feed], faults=faults) as run:
        found = run_with_faults(run, wanted, 400)
        kinds = dict(sorted(Counter(fault.kind for fault in found.faults).items()))
        missed = unnoticed(found, run)
        assert not missed, f"{feed}: {len(missed)} of {kinds} are not in the ledger in time: {missed[:5]}\n{found}"
        assert found.whole, f"{feed}: {found}"
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        traceless = sum(fault.overwritten() and not in_time(fault, found.gaps) for fault in found.faults)
        assert traceless <= kinds["skip"] / 2
        if traceless:
            told += f"; {traceless} of the skips unseen: the book's next update set all of its levels again"
        blind = Account(gaps=[], faults=found.faults)
        left = [fault for fault in blind.faults if fault.kind != "duplicate" and not in_time(fault, blind.gaps)]
        assert left
        return (
            f"{len(found.faults) - traceless} of {len(found.faults)}: {told}; {found}",
            f"without the ledger {len(left)} missed",
        )


@pytest.mark.timeout(600)
def test_every_fault_is_in_the_ledger_within_six_seconds(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    """All venues at once, for a stale one is waited for, and there is little to do meanwhile."""
    # A watchdog knows what silence means only once it knows the feed: the short share has no time for that.
    kinds = ",".join((*BUT_STALE * 4, "stale"))
    plan = f"{seed}:1500:{kinds}:{35 * RATE}" if full else f"{seed}:1000:{','.join(BUT_STALE)}"
    wanted = FAULTS if full else SHORT
    with ThreadPoolExecutor(len(wanted)) as pool:
        running = {feed: pool.submit(harmed, tmp_path / feed, feed, seed, n, plan) for feed, n in wanted.items()}
        for feed, one in running.items():
            reliability(f"Venue faults are in the ledger within 6 s ({feed})", *one.result())


@pytest.mark.timeout(300)
def test_an_adapter_that_does_not_look_at_numbers_misses_faults(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    """The control: the same faults, with the adapter's watch over the venue's numbers switched off."""
    if not full:
        pytest.skip("a control of the full run: SSMD_CHAOS=full")
    options = {"channels": CHANNELS["kalshi"], "faults": f"{seed}:500:skip,swap", "without": {"connector": "numbering"}}
    with platform(tmp_path, seed=seed, rate=RATE, **options) as run:
        run.start()
        run.until(lambda: run.status("simulator").get("faults", 0) >= 40, "40 faults are injected")
        run.rest()
        found = run.account()
        missed = [fault for fault in found.faults if not in_time(fault, found.gaps)]
        assert len(missed) > len(found.faults) / 2
        reliability(
            "Venue faults are in the ledger within 6 s: control",
            f"{len(found.faults)} skips and swaps",
            f"without the watch over sequences {len(missed)} missed",
        )


@pytest.mark.timeout(400)
def test_clean_data_has_no_gaps(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    frames, rate = (1_000_000, 12_000) if full else (30_000, 8_000)
    with platform(tmp_path, seed=seed, rate=rate, commit_seconds=1.0) as run:
        run.start()
        run.until(lambda: run.status("connector").get("frames", 0) >= frames, f"{frames} frames are captured", 300)
        run.rest()
        found = run.account()
        end = [gap for gap in found.gaps if "1001" in gap.evidence]  # the venue's own good-bye at the end of the run
        assert found.whole and found.sent == found.archived >= frames, str(found)
        assert found.gaps == end and len(end) == 1, found.gaps
        reliability("No false gaps on clean data", f"0 in {found.archived:,} frames", "see the faults above: not blind")

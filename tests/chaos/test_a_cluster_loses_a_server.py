"""One of three NATS servers is killed, a follower or the stream's leader: nothing is lost, nothing doubled."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from .accounts import Account
from .cluster import NODES, Cluster, cluster

RATE = 3000.0
PROMISE = "A NATS cluster that loses a server, also the stream's leader, loses and doubles nothing"


def without_a_server(run: Cluster, *, leader: bool) -> float:
    """Kill it while frames wait for its acknowledgement; how long until frames flow again. Then start it again."""
    run.until(run.current, "all replicas are current")
    leads = run.leader()
    node = leads if leader else run.chance.choice([node for node in NODES if node != leads])
    if leader:
        run.parts[leads].signal(signal.SIGSTOP)
        run.until(lambda: run.status("connector").get("unconfirmed", 0) > 300, "a batch is under way")
    run.kill_node(node)
    took = run.flowing(f"the end of {node}")
    assert all(run.parts[name].healthy for name in ("connector", "archiver")), run.logs()
    assert run.leader() not in {"", node}
    run.revive(node)
    run.until(run.nats_healthy, f"{node} is healthy again")
    return took


def bereft(run: Cluster, *, of: tuple[str, ...] = ("follower", "leader")) -> tuple[Account, dict[str, float]]:
    """A run without a follower for a while, then without the leader, that came to rest."""
    run.start()
    took = {who: without_a_server(run, leader=who == "leader") for who in of}
    run.until(run.current, "all replicas are current again")
    run.rest()
    return run.account(), took


@pytest.mark.timeout(240)
def test_nothing_is_lost_or_doubled_when_a_server_of_the_cluster_dies(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    with cluster(tmp_path, seed=seed, rate=RATE) as run:
        found, took = bereft(run) if full else bereft(run, of=("leader",))
        assert found.whole, f"{found}\n{run.logs()}"
        assert found.sent == found.archived > RATE, "a dead NATS server is no reason for a gap"
        assert found.connections == 1
        assert took.get("follower", 0) < 15 and took["leader"] < 30, f"{took}\n{run.logs()}"
        told = ", ".join(f"{seconds:.1f} s without the {who}" for who, seconds in took.items())
        reliability(PROMISE, f"{found}; frames flow again after {told}", "see the next row")


@pytest.mark.timeout(240)
def test_without_deduplication_the_new_leader_has_frames_twice(
    tmp_path: Path, seed: int, full: bool, reliability: Callable[[str, str, str], None]
) -> None:
    """The control: what the old leader had not acknowledged is sent again, and some of it was stored all the same."""
    if not full:
        pytest.skip("a control of the full run: SSMD_CHAOS=full")
    with cluster(tmp_path, seed=seed, rate=RATE, without={"archiver": "dedup"}) as run:
        found, _ = bereft(run)
        assert found.duplicated > 0
        reliability(f"{PROMISE}: control", "the same", f"without deduplication {found.duplicated} doubled")

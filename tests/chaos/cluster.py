"""The platform on a NATS cluster of three servers, every one of which may be killed."""

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from ssmd.up import servers
from tests.ports import HOST, free_port

from .rig import ROOT, Platform

NODES = ("nats-0", "nats-1", "nats-2")
STREAM = "CHAOS_KALSHI"


class Cluster(Platform):
    """Streams with three replicas; connector and archiver know all servers."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        self._listen = {node: (free_port(), free_port(), free_port()) for node in NODES}  # clients, monitor, routes
        path = folder / "config/environments/chaos.yaml"
        nats = {"servers": [f"nats://{HOST}:{ports[0]}" for ports in self._listen.values()], "replicas": len(NODES)}
        environment = yaml.safe_load(path.read_text()) | {"servers": "remote", "nats": nats}
        path.write_text(yaml.safe_dump(environment))
        self._urls = ",".join(nats["servers"])

    def write_addresses(self, temporal: str = "") -> None:
        super().write_addresses(temporal)
        for data in (self.capture, self.keep):
            path = data / "run/addresses.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | {"nats": self._urls}))

    def start_nats(self) -> None:
        binary = servers.find_binary("nats-server")
        routes = ",".join(f"nats://{HOST}:{routes}" for _, _, routes in self._listen.values())
        for node, (clients, monitor, route) in self._listen.items():
            command = [str(binary), "-c", str(ROOT / "deploy/nats/nats.conf"), "--name", node, "-a", HOST]
            command += ["-p", str(clients), "-m", str(monitor), "-sd", str(self.store / node)]
            command += ["--cluster_name", "ssmd", "--cluster", f"nats://{HOST}:{route}", "--routes", routes]
            self._part(node, command)
        self.until(self.nats_healthy, "the cluster is healthy")

    def node_healthy(self, node: str) -> bool:
        return self._monitored(node, "/healthz").get("status") == "ok"

    def nats_healthy(self) -> bool:
        return all(self.node_healthy(node) for node in NODES)

    def leader(self) -> str:
        """The server that leads the stream; empty if none does just now."""
        return next((node for node in NODES if self._stream(node).get("leader") == node), "")

    def current(self) -> bool:
        """Whether the stream's leader hears both followers, and they are not far behind."""
        followers = self._stream(self.leader()).get("replicas") or []
        return len(followers) == len(NODES) - 1 and all(f["active"] and f.get("lag", 0) < 100 for f in followers)

    def _stream(self, node: str) -> dict[str, Any]:
        """The stream's raft group, as a server sees it."""
        for account in self._monitored(node, "/jsz?streams=true").get("account_details") or []:
            for stream in account.get("stream_detail") or []:
                if stream["name"] == STREAM:
                    return dict(stream.get("cluster") or {})
        return {}

    def kill_node(self, node: str) -> None:
        """kill -9; it stays dead."""
        self.kill(node)
        self.dead(node)

    def _monitored(self, node: str, path: str) -> dict[str, Any]:
        if not node:
            return {}
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self._listen[node][1]}{path}", timeout=1) as answer:
                return dict(json.load(answer))
        except (OSError, ValueError):
            return {}


@contextlib.contextmanager
def cluster(folder: Path, **options: Any) -> Iterator[Cluster]:
    """A platform on a cluster that is gone afterwards, whatever happens."""
    made = Cluster(folder, **options)
    try:
        yield made
    finally:
        made.close()

"""What deploy/ would start is there: its modules, options, environment, feeds, servers, ports and folders."""

import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from ssmd import config
from ssmd.up import servers

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
K8S = sorted((DEPLOY / "k8s").glob("*.yaml"))


@dataclass(frozen=True)
class Container:
    """One process that a manifest starts, and the folders that outlive it."""

    where: str
    image: str
    command: list[str]
    mounts: dict[str, str]  # what is mounted -> where
    probes: frozenset[int]
    grace_seconds: int


def compose() -> Iterator[Container]:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name, service in services.items():
        command = [*service.get("entrypoint", []), *service["command"]]
        mounts = dict(volume.split(":")[:2] for volume in service["volumes"])
        grace = int(service.get("stop_grace_period", "10s").removesuffix("s"))
        yield Container(f"compose {name}", service["image"], command, mounts, frozenset(), grace)


def objects() -> list[dict[str, Any]]:
    return [thing for path in K8S for thing in yaml.safe_load_all(path.read_text())]


def kubernetes() -> Iterator[Container]:
    for thing in objects():
        if thing["kind"] not in {"StatefulSet", "Deployment"}:
            continue
        spec = thing["spec"]["template"]["spec"]
        volumes = {v["name"]: v.get("persistentVolumeClaim", {}).get("claimName", v["name"]) for v in spec["volumes"]}
        volumes |= {v["metadata"]["name"]: v["metadata"]["name"] for v in thing["spec"].get("volumeClaimTemplates", [])}
        for made in spec["containers"]:
            ports = {p.get("name", p["containerPort"]): p["containerPort"] for p in made["ports"]}
            probes = [made[f"{kind}Probe"] for kind in ("readiness", "liveness")]
            asked = [(p.get("httpGet") or p["tcpSocket"])["port"] for p in probes]
            yield Container(
                f"k8s {thing['metadata']['name']}",
                made["image"],
                [*made["command"], *made["args"]],
                {volumes[m["name"]]: m["mountPath"] for m in made["volumeMounts"]},
                frozenset(ports.get(port, port) for port in asked),
                spec["terminationGracePeriodSeconds"],
            )


ALL = [*compose(), *kubernetes()]
OURS = [c for c in ALL if c.image == "ssmd"]
NATS = [c for c in ALL if c.image.startswith("nats:")]


def named(containers: list[Container]) -> Any:
    return pytest.mark.parametrize("container", containers, ids=lambda c: c.where)


def option(container: Container, name: str) -> str:
    return container.command[container.command.index(name) + 1]


@functools.cache
def options_of(service: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", f"services.{service}", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout


def test_both_ways_start_the_same() -> None:
    def started(containers: Iterator[Container]) -> list[list[str]]:
        return sorted(c.command for c in containers if c.image == "ssmd")

    assert started(compose()) == started(kubernetes())
    assert {c.command[2] for c in OURS} == {"services.connector", "services.archiver", "services.worker"}


@named(OURS)
def test_a_service_takes_its_options(container: Container) -> None:
    python, m, module, *given = container.command
    assert (python, m) == ("python", "-m")
    told = options_of(module.removeprefix("services."))
    for name in given[::2]:
        assert re.search(rf"{name}\b", told), f"{module} has no option {name}"
    environment = config.load_environment(option(container, "--env"))
    assert environment.servers == "remote"
    if "--feed" in given:
        plan = environment.feed(option(container, "--feed"))
        version = config.load_feed(plan.feed).versions[-1]
        assert plan.endpoint in version.endpoints
        assert plan.key is not None or not version.signed, "it needs a secret that the manifest does not give it"
    if container.probes:
        assert container.probes == {int(option(container, "--port"))}
        assert option(container, "--host") == "0.0.0.0"


def test_every_feed_of_the_environment_is_run() -> None:
    feeds = {plan.feed for plan in config.load_environment("cluster").feeds}
    for way in (compose(), kubernetes()):
        run = [(c.command[2], option(c, "--feed")) for c in way if "--feed" in c.command]
        assert sorted(run) == sorted((f"services.{s}", feed) for s in ("connector", "archiver") for feed in feeds)


@named(OURS)
def test_what_must_survive_is_on_a_volume(container: Container) -> None:
    data = option(container, "--data")
    assert data in container.mounts.values()
    shared = {"services.archiver", "services.worker"}
    others = [c for c in OURS if c.where.split()[0] == container.where.split()[0] and c.command[2] in shared]
    (volume,) = [name for name, path in container.mounts.items() if path == data]
    if container.command[2] in shared:
        assert all(c.mounts.get(volume) == data for c in others), "archivers and workers share one data folder"
    assert container.grace_seconds >= 30


def test_the_image_has_what_is_started() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    copied = set(re.findall(r"^COPY (\w+) \w+$", dockerfile, re.MULTILINE))
    assert copied == {"ssmd", "exchanges", "activities", "workflows", "services"}
    user = re.search(r"--uid (\d+)", dockerfile)
    assert user is not None
    users = {
        thing["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
        for thing in objects()
        if thing["kind"] in {"StatefulSet", "Deployment"} and thing["metadata"]["name"] != "nats"
    }
    assert users == {int(user[1])}


@named(NATS)
def test_nats_takes_its_command(container: Container, tmp_path: Path) -> None:
    given = [word for word in container.command if word != "nats-server"]
    given = [word.replace("$(POD)", "nats-0").replace("/etc/nats", str(DEPLOY / "nats")) for word in given]
    given = [word.replace("-sd=/data", f"-sd={tmp_path}") for word in given]
    done = subprocess.run([servers.find_binary("nats-server"), *given, "-t"], capture_output=True, text=True)
    assert "is valid" in done.stdout + done.stderr, done.stderr
    assert "/data" in container.mounts.values() and "-sd=/data" in container.command
    if container.probes:
        assert container.probes == {8222}


def test_an_option_that_nats_does_not_know_is_found() -> None:
    """The control of the one above."""
    command = [servers.find_binary("nats-server"), f"-c={DEPLOY / 'nats/nats.conf'}", "-t"]
    for more, valid in (([], True), (["--replicas=3"], False)):
        done = subprocess.run([*command, *more], capture_output=True, text=True)
        assert ("is valid" in done.stdout + done.stderr) == valid, done.stderr


def test_the_environment_names_the_servers_that_are_started() -> None:
    nats = config.load_environment("cluster").nats
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    aliases = {
        alias
        for service in services.values()
        for alias in service.get("networks", {}).get("default", {}).get("aliases", [])
    }
    (pods,) = [o for o in objects() if o["kind"] == "StatefulSet" and o["metadata"]["name"] == "nats"]
    (service,) = [o for o in objects() if o["kind"] == "Service"]
    hosts = {f"nats-{i}.{service['metadata']['name']}" for i in range(pods["spec"]["replicas"])}
    assert {urlsplit(url).hostname for url in nats.servers} == aliases == hosts
    assert {urlsplit(url).port for url in nats.servers} == {4222} <= {p["port"] for p in service["spec"]["ports"]}
    assert nats.replicas <= len(hosts)
    assert config.load_environment("cluster").temporal.address.split(":")[0] in services


def test_nats_is_told_the_same_everywhere() -> None:
    (found,) = [o["data"]["nats.conf"] for o in objects() if o["kind"] == "ConfigMap"]
    assert found == (DEPLOY / "nats/nats.conf").read_text()
    payload = re.search(r"max_payload: (\d+)MB", found)
    assert payload is not None and int(payload[1]) << 20 == servers.PAYLOAD_BYTES_MAX


def test_every_volume_is_there() -> None:
    content = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    used = {volume.split(":")[0] for service in content["services"].values() for volume in service["volumes"]}
    assert used == set(content["volumes"])
    claims = {o["metadata"]["name"] for o in objects() if o["kind"] == "PersistentVolumeClaim"}
    for container in kubernetes():
        if container.command[2:3] and container.command[2] in {"services.archiver", "services.worker"}:
            assert claims & set(container.mounts)

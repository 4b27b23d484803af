"""An environment names one NATS server or a cluster's; whoever asks reaches any server that is up."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ssmd import broker, config
from ssmd.errors import Permanent
from ssmd.telemetry import configure_logging

CLUSTER = [f"nats://nats-{i}:4222" for i in range(3)]


def environment(folder: Path, **more: Any) -> config.Environment:
    (folder / "environments").mkdir()
    content = {"name": "made", "servers": "remote", "feeds": [{"feed": "kraken", "endpoint": "production"}]} | more
    (folder / "environments/made.yaml").write_text(yaml.safe_dump(content))
    return config.load_environment("made", folder)


@pytest.mark.parametrize(
    ("said", "url", "replicas"),
    [
        (None, "nats://127.0.0.1:4222", 1),
        ("nats://nats:4222", "nats://nats:4222", 1),
        (",".join(CLUSTER), ",".join(CLUSTER), 1),
        ({"servers": CLUSTER, "replicas": 3}, ",".join(CLUSTER), 3),
    ],
    ids=["nothing", "one server", "several", "replicas"],
)
def test_an_environment_says_where_nats_is(tmp_path: Path, said: object, url: str, replicas: int) -> None:
    nats = environment(tmp_path, **({} if said is None else {"nats": said})).nats
    assert (nats.url, nats.replicas) == (url, replicas)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"nats": {"servers": CLUSTER, "replicas": 2}}, "nats.replicas: 2 is none of the words known here; write"),
        ({"nats": {"servers": [], "replicas": 1}}, "nats.servers: "),
        ({"nats": "nats-0:4222"}, "'nats-0:4222' is no address of a NATS server; write it as nats://host:port"),
        ({"nats": {"servers": CLUSTER}, "servers": "local"}, "`ssmd up` starts is one server without replicas"),
        ({"nats": {"replicas": 3}, "servers": "local"}, "`ssmd up` starts is one server without replicas"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Permanent) as refused:
        environment(tmp_path, **more)
    assert sentence in str(refused.value)


async def test_replicas_want_a_cluster(nats_server: Any) -> None:
    client = await broker.connect(nats_server.url, "test", configure_logging(service="test"))
    try:
        with pytest.raises(Permanent, match=r"cannot have 3 replicas: this NATS is no cluster: set nats.replicas to 1"):
            await broker.ensure_stream(client, "REPLICATED", ["replicated.>"], 3)
    finally:
        await client.close()


async def test_a_question_reaches_any_server_that_is_up(nats_server: Any, free_port: Callable[[], int]) -> None:
    down = [f"nats://127.0.0.1:{free_port()}" for _ in range(4)]
    client = await broker.connect_once(",".join([*down, nats_server.url]), "test", 1.0)
    assert client.is_connected
    await client.close()
    with pytest.raises(OSError):
        await broker.connect_once(",".join(down), "test", 1.0)

"""A store never replaces what it was not told to: an S3 and a folder, and one that ignores conditions is refused."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ssmd import config, storage
from ssmd.errors import Permanent, Transient
from ssmd.storage import Changed, Missing, Store
from tests.storage.proxies import stripping


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def s3_store(
    server: object,
    tmp_path: Path,
    prefix: str,
    endpoint: str = "",
    secret: str | None = None,
    bucket: str = "ssmd-test",
) -> Store:
    (tmp_path / "id").write_text(server.key_id)  # type: ignore[attr-defined]
    (tmp_path / "secret").write_text(secret or server.secret)  # type: ignore[attr-defined]
    key = config.KeyReference(id=f"file:{tmp_path}/id", secret=f"file:{tmp_path}/secret")
    wanted = config.Storage(url=f"s3://{bucket}/{prefix}", key=key, endpoint_url=endpoint or server.endpoint)  # type: ignore[attr-defined]
    return storage.open_store(wanted, tmp_path)


@pytest.fixture(params=["s3", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return storage.open_store(config.Storage(url=str(tmp_path / "store")), tmp_path)
    return s3_store(request.getfixturevalue("s3_server"), tmp_path, f"{tmp_path.name}/deep")


def test_what_is_there_is_never_replaced_unseen(store: Store, tmp_path: Path) -> None:
    storage.probe(store)
    (tmp_path / "file").write_bytes(b"first")
    assert store.create("a=1/b", tmp_path / "file", sha256(b"first"))
    assert not store.create("a=1/b", b"second", sha256(b"second"))
    assert store.read("a=1/b") == b"first"
    assert store.read("a=1/b", 1, 3) == b"ir"
    assert storage.sha256_of(store, "a=1/b", 5) == sha256(b"first")
    assert store.checksum("a=1/b") == (sha256(b"first") if store.url.startswith("s3://") else None)

    store.replace("m", b"one", None)
    seen = store.stat("m")
    assert seen is not None
    with pytest.raises(Changed):
        store.replace("m", b"other", None)
    store.replace("m", b"two!", seen.etag)
    with pytest.raises(Changed):
        store.replace("m", b"three", seen.etag)
    assert store.read("m") == b"two!"

    assert [path for path, _ in store.list("a=1")] == ["a=1/b"]
    store.remove("a=1/b")
    assert store.stat("a=1/b") is None
    with pytest.raises(Missing):
        store.read("a=1/b")
    assert [path for path, _ in store.list(storage.PROBES)] == [], "the probe cleans up"


def test_of_many_who_create_at_once_one_does(store: Store) -> None:
    made: list[bytes] = []

    def create(data: bytes) -> None:
        if store.create("contested", data, sha256(data)):
            made.append(data)

    threads = [threading.Thread(target=create, args=(b"%d" % i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [store.read("contested")]


@pytest.mark.parametrize(
    ("ignored", "told"), [((b"If-None-Match",), "If-None-Match"), ((b"If-Match",), "If-Match"), ((b"X-Nothing",), "")]
)
def test_a_store_that_ignores_a_condition_is_refused(
    s3_server: object, tmp_path: Path, free_port: Callable[[], int], ignored: tuple[bytes, ...], told: str
) -> None:
    ignored = (b"Authorization", *ignored)  # a signature would notice
    with stripping(free_port(), s3_server.endpoint, ignored) as endpoint:  # type: ignore[attr-defined]
        store = s3_store(s3_server, tmp_path, tmp_path.name, endpoint, bucket="ssmd-open")
        if not told:  # the control: through the same proxy, nothing left out
            storage.probe(store)
            return
        with pytest.raises(Permanent, match=f"does not honour {told}.*use a store that does"):
            storage.probe(store)


def test_refusals_are_one_sentence_without_the_secret(s3_server: object, tmp_path: Path) -> None:
    store = s3_store(s3_server, tmp_path, "x", secret="wr0ng-c4n4ry")
    with pytest.raises(Permanent, match=r"the credentials file:.*/secret are refused") as refused:
        store.stat("a")
    assert "c4n4ry" not in str(refused.value)
    assert "c4n4ry" not in repr(refused.value.__cause__)


def test_a_store_that_is_away_is_worth_another_try(s3_server: object, tmp_path: Path) -> None:
    store = s3_store(s3_server, tmp_path, "x", "http://127.0.0.1:1")
    with pytest.raises(Transient, match="does not answer"):
        store.stat("a")

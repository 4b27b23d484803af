"""Object storage as ssmd uses it: data objects, written once, and a few small records, replaced only by who read them.

An S3 (through s3fs) or a folder; both keep the same promises, and `probe` finds out whether a store does:
`create` never replaces what is there (`If-None-Match: *`), `replace` only what its caller has seen (`If-Match`).
Paths are relative to the store's root, with `/`.
"""

import base64
import contextlib
import hashlib
import shutil
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import msgspec

from ssmd import config, durable
from ssmd.errors import Permanent, SsmdError, Transient

R = TypeVar("R")

READ_BYTES = 8 << 20  # of one request: large enough for S3's 100 MB/s a connection, small enough to hold many
OBJECT_BYTES_MAX = 5 << 30  # what S3 takes in one request
CONNECT_SECONDS = 5
READ_SECONDS = 60
TRIES_MAX = 2  # of one request, by botocore, with back-off; a whole step is tried again by its workflow
# What DuckDB reads of a file at once is mostly larger; a day of 10 GB has 10,000 of these: 0.7 MB of hashes.
BLOCK_BYTES = 1 << 20
PROBES = ".probe"  # folder of the objects that `probe` makes, and removes


class Stat(NamedTuple):
    """An object's size, and the tag that changes with its content."""

    bytes: int
    etag: str


class Missing(Permanent):
    """There is no such object."""


class Changed(Transient):
    """Somebody else wrote the object meanwhile."""


class Object(msgspec.Struct, frozen=True):
    """A data object: its path in the store, and the SHA-256 of all of it and of each block."""

    path: str  # in the store
    bytes: int  # of it
    sha256: str  # of all of it
    blocks: list[str]  # SHA-256 of each block
    block_bytes: int = BLOCK_BYTES  # of a block, but the last


class Store(Protocol):
    """A place for objects. Everything raises Transient where the store is away, Permanent where it refuses."""

    url: str

    def create(self, path: str, source: Path | bytes, sha256: str) -> bool:
        """Store a new object; False, and nothing changed, if there is one."""

    def replace(self, path: str, data: bytes, etag: str | None) -> None:
        """Store an object in the place of the one with that tag (None: of none). Raises Changed."""

    def stat(self, path: str) -> Stat | None:
        """None if there is no such object."""

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from `start` up to, not with, `end`. Raises Missing."""

    def list(self, folder: str) -> Iterator[tuple[str, Stat]]:
        """Every object under a folder, by path."""

    def remove(self, path: str) -> None:
        """Remove an object, if it is there."""

    def checksum(self, path: str) -> str | None:
        """The SHA-256 that the store itself found when it took the object; None if it keeps none."""


def open_store(storage: config.Storage, data: Path, endpoint_url: str = "") -> Store:
    """The store of an environment; `endpoint_url` is where the one that `ssmd up` started listens."""
    if storage.server == "local" and not endpoint_url:
        raise Permanent(
            f"{storage.url} is served by `ssmd up`, which does not run on the data folder {data}: start it there, or "
            "say by AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY where else it is served"
        )
    if storage.is_s3:
        return S3(storage, data, endpoint_url)
    folder = Path(storage.url.replace("{data}", str(data))).expanduser()
    return Folder(folder)


def sha256_of(store: Store, path: str, size: int, look: Callable[[int], None] = lambda read: None) -> str:
    """The SHA-256 of an object as the store gives it now; `look` is told how many bytes were read. Raises Missing."""
    digest = hashlib.sha256()
    for start in range(0, size, READ_BYTES):
        piece = store.read(path, start, min(start + READ_BYTES, size))
        digest.update(piece)
        look(len(piece))
    return digest.hexdigest()


def probe(store: Store) -> None:
    """Try on an object of its own whether the store refuses what it must. Raises Permanent if not."""
    path = f"{PROBES}/{uuid.uuid4()}"
    first, second = b"first\n", b"second\n"
    try:
        if not store.create(path, first, hashlib.sha256(first).hexdigest()):
            raise Permanent(f"{store.url} says that a new object is there already: nothing can be published to it")
        if store.create(path, second, hashlib.sha256(second).hexdigest()) or store.read(path) != first:
            raise Permanent(_unfit(store, "If-None-Match: * (an object that was there was written over)"))
        try:
            store.replace(path, second, '"00000000000000000000000000000000"')
        except Changed:
            pass
        else:
            raise Permanent(_unfit(store, "If-Match (an object was replaced under another's tag)"))
        found = store.stat(path)
        if found is None:
            raise Permanent(f"{store.url} lost an object that it had just taken: nothing can be published to it")
        store.replace(path, second, found.etag)
        if store.read(path) != second:
            raise Permanent(f"{store.url} gave back an older object than it had taken: it must read what was written")
    finally:
        with contextlib.suppress(SsmdError):
            store.remove(path)


def _unfit(store: Store, what: str) -> str:
    return (
        f"{store.url} does not honour {what}: two publishers could destroy each other's days, so nothing is "
        "published to it; use a store that does (AWS S3, SeaweedFS from 4.30, MinIO, Cloudflare R2), upgrade it, or "
        "remove a proxy that strips the header"
    )


# ---------------------------------------------------------------------------------------------------------- folder


class Folder:
    """A folder as a store, such as another disk or a network mount."""

    def __init__(self, root: Path) -> None:
        self.url = str(root)
        self._root = root
        self._lock = threading.Lock()

    def create(self, path: str, source: Path | bytes, sha256: str) -> bool:
        target = self._root / path
        if target.exists():
            return False
        durable.make_folder(target.parent)
        try:
            if isinstance(source, bytes):
                durable.create_by(target, lambda file: file.write(source))
            else:
                with source.open("rb") as content:
                    durable.create_by(target, lambda file: shutil.copyfileobj(content, file, READ_BYTES))
        except FileExistsError:
            return False
        return True

    def replace(self, path: str, data: bytes, etag: str | None) -> None:
        target = self._root / path
        durable.make_folder(target.parent)
        with self._lock, durable.Lock(self._root, "a publish"):
            found = self.stat(path)
            if (found.etag if found else None) != etag:
                raise Changed(f"{target} was written by somebody else meanwhile: trying again")
            durable.replace(target, data)

    def stat(self, path: str) -> Stat | None:
        try:
            found = (self._root / path).stat()
        except FileNotFoundError:
            return None
        return Stat(found.st_size, f"{found.st_ino}-{found.st_mtime_ns}")

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        try:
            with (self._root / path).open("rb") as file:
                file.seek(start)
                return file.read(-1 if end is None else end - start)
        except FileNotFoundError:
            raise Missing(f"{self._root / path} is not there") from None
        except OSError as e:
            raise Transient(f"{self._root / path} cannot be read ({e.strerror})") from e

    def list(self, folder: str) -> Iterator[tuple[str, Stat]]:
        for path in sorted((self._root / folder).rglob("*")):
            name = str(path.relative_to(self._root))
            if path.is_file() and not path.name.startswith(".") and (found := self.stat(name)) is not None:
                yield name, found

    def remove(self, path: str) -> None:
        durable.remove(self._root / path)

    def checksum(self, path: str) -> str | None:
        return None


# -------------------------------------------------------------------------------------------------------------- S3


class S3:
    """A bucket, and a prefix in it."""

    def __init__(self, storage: config.Storage, data: Path, endpoint_url: str = "") -> None:
        import s3fs  # noqa: PLC0415 - 0.4 s that only those need who have an S3

        self.url = storage.url.rstrip("/")
        self._bucket, _, prefix = self.url.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._endpoint = endpoint_url or storage.endpoint_url
        self._reference = storage.key.secret if storage.key is not None else "of the environment (AWS_…)"
        key, secret = (None, None)
        if storage.key is not None:
            name, value = storage.key.load(data)
            key, secret = name, value.decode().strip()
        region = storage.region or ("us-east-1" if self._endpoint else None)
        self._fs: Any = s3fs.S3FileSystem(
            key=key,
            secret=secret,
            endpoint_url=self._endpoint,
            client_kwargs={"region_name": region} if region else {},
            config_kwargs={
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": READ_SECONDS,
                "retries": {"mode": "standard", "max_attempts": TRIES_MAX},
                "max_pool_connections": max(10, storage.parallel),
                # What we send has a SHA-256 of ours; other checksums, which not every store knows, only where needed.
                "request_checksum_calculation": "when_required",
                "s3": {"addressing_style": "path" if self._endpoint else "auto"},
            },
            skip_instance_cache=True,
        )
        self._fs.retries = 1  # botocore does, and sends a file from its beginning again

    def create(self, path: str, source: Path | bytes, sha256: str) -> bool:
        with contextlib.ExitStack() as stack:
            if isinstance(source, bytes):
                body: Any = source
            else:
                if source.stat().st_size > OBJECT_BYTES_MAX:
                    raise Permanent(f"{source} has over 5 GiB, more than S3 takes at once: rotate or roll up smaller")
                body = stack.enter_context(source.open("rb"))
            try:
                self._ask(path, "put_object", Body=body, IfNoneMatch="*", **_integrity(sha256))
            except Changed:
                return False
        return True

    def replace(self, path: str, data: bytes, etag: str | None) -> None:
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        self._ask(path, "put_object", Body=data, **condition, **_integrity(hashlib.sha256(data).hexdigest()))

    def stat(self, path: str) -> Stat | None:
        try:
            found = self._ask(path, "head_object")
        except Missing:
            return None
        return Stat(int(found["ContentLength"]), str(found["ETag"]))

    def read(self, path: str, start: int = 0, end: int | None = None) -> bytes:
        if end is not None and end <= start:
            return b""
        range_ = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}

        async def whole() -> bytes:
            answer = await self._fs._call_s3("get_object", Bucket=self._bucket, Key=self._prefix + path, **range_)
            async with answer["Body"] as body:
                return bytes(await body.read())

        return self._run(path, whole)

    def list(self, folder: str) -> Iterator[tuple[str, Stat]]:
        more: dict[str, str] = {}
        while True:
            page = self._ask("", "list_objects_v2", Prefix=f"{self._prefix}{folder}/", **more)
            for found in page.get("Contents", []):
                yield found["Key"].removeprefix(self._prefix), Stat(int(found["Size"]), str(found["ETag"]))
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def remove(self, path: str) -> None:
        self._ask(path, "delete_object")

    def checksum(self, path: str) -> str | None:
        said = self._ask(path, "head_object", ChecksumMode="ENABLED").get("ChecksumSHA256")
        return base64.b64decode(said).hex() if said else None

    def _ask(self, path: str, method: str, **arguments: Any) -> dict[str, Any]:
        if path:
            arguments["Key"] = self._prefix + path

        async def asking() -> dict[str, Any]:
            answer: dict[str, Any] = await self._fs._call_s3(method, Bucket=self._bucket, **arguments)
            return answer

        return self._run(path, asking)

    def _run(self, path: str, asking: Callable[[], Coroutine[Any, Any, R]]) -> R:
        import botocore.exceptions  # noqa: PLC0415
        from fsspec.asyn import sync  # noqa: PLC0415

        try:
            result: R = sync(self._fs.loop, asking)
            return result
        except Exception as e:
            cause = e if isinstance(e, botocore.exceptions.ClientError) else e.__cause__
            if isinstance(cause, botocore.exceptions.ClientError):
                raise self._refused(path, cause) from e
            if isinstance(e, botocore.exceptions.NoCredentialsError):
                raise Permanent(
                    f"{self.url}: there are no credentials: name them as `key` in the environment's `storage`, or set "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                ) from e
            told = " ".join(str(e).split())[:200] or type(e).__name__
            raise Transient(
                f"{self.url} does not answer ({told}): start it, or mend the endpoint or the network"
            ) from e

    def _refused(self, path: str, error: Any) -> SsmdError:
        """What the store said, as ours."""
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        where = f"{self.url}/{path}" if path else self.url
        if code == "NoSuchBucket":
            return Permanent(
                f"{self.url}: there is no bucket {self._bucket}: make it, or mend the environment's `storage`"
            )
        if code == "PreconditionFailed" or status in {409, 412}:
            return Changed(f"{where} was written by somebody else meanwhile: trying again")
        if code in {"NoSuchKey", "NotFound"} or status == 404:
            return Missing(f"{where} is not there")
        if code == "RequestTimeTooSkewed":
            return Permanent(f"{self.url} refuses our clock: set this machine's time")
        if status in {401, 403}:
            return Permanent(
                f"{where}: the credentials {self._reference} are refused ({code or status}): check the key, and that "
                "it may read, write and list there"
            )
        told = f"{code or status}: {error.response.get('Error', {}).get('Message', '')}"[:200]
        kind = Permanent if 400 <= status < 500 and status not in {408, 429} else Transient
        return kind(f"{where}: the store says {told}")


def _integrity(sha256: str) -> dict[str, Any]:
    """The store compares what arrives with this, and refuses what is not so."""
    return {"ChecksumSHA256": base64.b64encode(bytes.fromhex(sha256)).decode(), "Metadata": {"sha256": sha256}}

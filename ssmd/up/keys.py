"""The keys by which our connectors sign in at simulated venues: made on the first run, kept in the data folder."""

import uuid
from pathlib import Path
from secrets import token_urlsafe

from ssmd import config, durable
from ssmd.errors import Permanent
from ssmd.gitops import secrets
from ssmd.up.wanted import Source


def make_missing(sources: tuple[Source, ...], places: config.Places) -> dict[str, tuple[str, Path]]:
    """For each simulated feed that signs, its key id and the file with the public half, for its simulator."""
    made = {}
    for source in sources:
        reference = source.plan.key
        if not source.simulated or reference is None:
            continue
        _make(reference, places.data)
        key_id, secret = reference.load(places.data)
        public = places.keys / f"{source.name}.pub.pem"
        text = _public_half(secret, reference.secret)
        if not public.exists() or public.read_bytes() != text:
            durable.replace(public, text)
        made[source.name] = key_id, public
    return made


def make_storage_key(storage: config.Storage, data: Path) -> None:
    """The credentials of an S3 server of ours, in the files that are referred to inside the data folder."""
    assert storage.key is not None, "a local server has one: see config.Storage"
    for reference, made in ((storage.key.id, uuid.uuid4().hex[:20]), (storage.key.secret, token_urlsafe(30))):
        path = _ours(reference, data)
        if path is not None and not path.exists():
            durable.replace(path, f"{made}\n".encode(), mode=0o600)


def _make(reference: config.KeyReference, data: Path) -> None:
    """Make the files that are referred to inside the data folder; any other reference is its owner's affair."""
    key_id, secret = (_ours(r, data) for r in (reference.id, reference.secret))
    if key_id is not None and not key_id.exists():
        durable.replace(key_id, f"{uuid.uuid4()}\n".encode(), mode=0o600)
    if secret is not None and not secret.exists():
        durable.replace(secret, secrets.rsa_pem(), mode=0o600)


def _ours(reference: str, data: Path) -> Path | None:
    kind, _, where = reference.partition(":")
    return Path(where.replace("{data}", str(data))) if kind == "file" and where.startswith("{data}/") else None


def _public_half(secret: bytes, reference: str) -> bytes:
    public = secrets.public_pem(secret)
    if public is None:
        raise Permanent(
            f"key reference {reference}: is no unencrypted private key in PEM; remove it and `ssmd up` makes a new one"
        )
    return public

"""Secrets on their way into the files that references name: mode 600, outside of git, never shown."""

from pathlib import Path

from ssmd import durable
from ssmd.errors import Permanent
from ssmd.gitops import references, repository
from ssmd.gitops.references import Key, Part

RSA_BITS = 2048  # what Kalshi's own key page makes
_BYTES_MAX = 64 << 10


def rsa_pem() -> bytes:
    """A new private key, PKCS#8 in PEM."""
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - 40 ms
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat  # noqa: PLC0415

    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(secret: bytes) -> bytes | None:
    """The public half of a private key in PEM; None if it is none."""
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        PublicFormat,
        load_pem_private_key,
    )

    try:
        key = load_pem_private_key(secret, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def previous(path: Path) -> Path:
    """Where the secret before the last rotation is kept."""
    return path.with_name(f"{path.name}.previous")


def destination(part: Part, data: Path) -> Path:
    """The file that a part is to be written to. Raises Permanent if it is none, or one that git would take."""
    path = part.path(data)
    if path is None:
        raise Permanent(
            f"{part.reference}: is a variable, which ssmd cannot set for you: export {part.variable}=… where ssmd runs"
        )
    if path.is_dir():
        raise Permanent(f"{part.reference}: is a folder: name a file in it")
    for p in (path, previous(path)):
        if not repository.ignored(p):
            raise Permanent(
                f"{p}: git would take it: name a file outside of the repository, or add it to .gitignore first"
            )
    return path


def read(source: Path) -> bytes:
    """What a file holds that is to become a secret. Raises Permanent without showing it."""
    try:
        if source.stat().st_size > _BYTES_MAX:
            raise Permanent(f"{source}: is larger than {_BYTES_MAX >> 10} kB: name the file with the key")
        value = source.read_bytes()
    except OSError as e:
        raise Permanent(f"{source}: cannot be read ({e.strerror}): name the file with the key") from e
    return value


def check(key: Key, values: dict[Part, bytes], data: Path) -> None:
    """Refuse what the venue's grammar does not take, before anything is written."""
    for part, value in values.items():
        if not value.strip():
            raise Permanent(f"{part.reference}: nothing was given for it: nothing was written")
    if key.feed is None or key.simulated:
        return
    whole = []
    for part in key.parts:
        if part not in values and not part.present(data):
            return  # the other half comes later
        path = part.path(data)
        whole.append(values.get(part) or (path.read_bytes() if path else _variable(part)))
    references.well_formed(key.feed.venue, whole[0].decode(errors="replace").strip(), whole[1])


def _variable(part: Part) -> bytes:
    import os  # noqa: PLC0415

    return os.environ.get(part.variable or "", "").encode()


def write(key: Key, values: dict[Part, bytes], data: Path, *, keep_previous: bool = False) -> list[Path]:
    """Write parts of a key, for their owner's eyes alone; the files. Checks all of it before the first."""
    check(key, values, data)
    targets = {destination(part, data): value for part, value in values.items()}
    for path, value in targets.items():
        _make_private(path.parent)
        if keep_previous and path.is_file():
            durable.replace(previous(path), path.read_bytes(), mode=0o600)
        durable.replace(path, value, mode=0o600)
    return list(targets)


def _make_private(folder: Path) -> None:
    if not folder.is_dir():
        durable.make_folder(folder)
        folder.chmod(0o700)

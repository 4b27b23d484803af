"""The first run makes the keys for the simulated venues, for our eyes only; later runs keep them."""

import stat
from pathlib import Path

import fakes
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from ssmd import config
from ssmd.errors import Permanent
from ssmd.up import keys


@pytest.fixture
def places(tmp_path: Path) -> config.Places:
    made = config.Places(tmp_path / "data")
    made.create()
    return made


def test_they_belong_together_and_are_for_us_alone(places: config.Places) -> None:
    sources = fakes.run_wanted(places.data).sources
    key_id, public = keys.make_missing(sources, places)["kalshi"]
    private = load_pem_private_key((places.keys / "kalshi.pem").read_bytes(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    assert private.key_size == 2048
    assert load_pem_public_key(public.read_bytes()) == private.public_key()
    assert key_id == (places.keys / "kalshi.id").read_text().strip()
    assert stat.S_IMODE((places.keys / "kalshi.pem").stat().st_mode) == 0o600
    assert b"PRIVATE" not in public.read_bytes()


def test_a_second_run_keeps_them(places: config.Places) -> None:
    sources = fakes.run_wanted(places.data).sources
    first = keys.make_missing(sources, places)
    before = {p.name: p.read_bytes() for p in places.keys.iterdir()}
    assert keys.make_missing(sources, places) == first
    assert {p.name: p.read_bytes() for p in places.keys.iterdir()} == before


def test_a_lost_public_half_comes_back(places: config.Places) -> None:
    sources = fakes.run_wanted(places.data).sources
    public = keys.make_missing(sources, places)["kalshi"][1]
    before = public.read_bytes()
    public.unlink()
    keys.make_missing(sources, places)
    assert public.read_bytes() == before


def test_a_file_that_is_no_key_is_one_sentence_without_its_content(places: config.Places) -> None:
    (places.keys / "kalshi.pem").write_text("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n")
    with pytest.raises(Permanent, match=r"file:\{data\}/keys/kalshi.pem: is no unencrypted private key") as caught:
        keys.make_missing(fakes.run_wanted(places.data).sources, places)
    assert "c2VjcmV0" not in str(caught.value)

"""How everyone reaches Temporal: where, as whom, and how much may travel.

Address, namespace, TLS and API key come from the environment's YAML, secrets by reference. What travels through
Temporal is kept in its histories, so it is small: one value takes at most 64 KiB, and what is larger is refused here,
by whoever made it, with a sentence that names it.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.client import Client, TLSConfig
from temporalio.converter import DataConverter, DefaultPayloadConverter

from ssmd import config
from ssmd.errors import Permanent, Transient

PAYLOAD_BYTES_MAX = 64 << 10


class Bounded(DefaultPayloadConverter):
    """Temporal's own JSON, bounded."""

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        """Raises Permanent if a value is too large."""
        payloads = super().to_payloads(values)
        for value, payload in zip(values, payloads, strict=True):
            if len(payload.data) > PAYLOAD_BYTES_MAX:
                raise Permanent(
                    f"a {type(value).__name__} of {len(payload.data):,} bytes may not go through Temporal, which keeps "
                    f"at most {PAYLOAD_BYTES_MAX:,} of one value: hand on where the rest lies, not the rest itself"
                )
        return payloads


CONVERTER = replace(DataConverter.default, payload_converter_class=Bounded)


async def connect(temporal: config.Temporal, address: str | None = None, *, lazy: bool = False) -> Client:
    """A client of the environment's Temporal (at `address`, where `ssmd up` has put it elsewhere).

    Raises Transient if nobody answers there, Permanent if a reference leads nowhere. `lazy`: connects at first use.
    """
    where = address or temporal.address
    credentials = _read(temporal.api_key)
    try:
        return await Client.connect(
            where,
            namespace=temporal.space,
            tls=_tls(temporal.tls) if temporal.tls is not None else credentials is not None,
            api_key=None if credentials is None else credentials.decode().strip(),
            data_converter=CONVERTER,
            lazy=lazy,
        )
    except RuntimeError as e:  # what the SDK raises where nothing listens, and where TLS is refused
        raise Transient(
            f"no Temporal answers at {where} ({_reason(e)}): start it with `ssmd up`, "
            "or mend `temporal:` in the environment"
        ) from e


def _tls(tls: config.Tls) -> TLSConfig:
    return TLSConfig(
        server_root_ca_cert=_read(tls.ca),
        domain=tls.server_name,
        client_cert=_read(tls.certificate),
        client_private_key=_read(tls.key),
    )


def _read(reference: str | None) -> bytes | None:
    return None if reference is None else config.dereference(reference, config.ELSEWHERE)


def _reason(error: RuntimeError) -> str:
    """The innermost words of the SDK, whose own sentence is a nest of its types."""
    said = str(error)
    if untrusted := re.search(r"InvalidCertificate\((\w+)", said):
        return f"its certificate is not trusted: {untrusted[1]}"
    told = re.findall(r'(?:message|error): "([^":]+)', said)
    return told[-1] if told else "the connection was closed"

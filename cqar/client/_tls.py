"""How a connection to the server is encrypted."""

from __future__ import annotations

import os

import msgspec

from cqar.client._arguments import path
from cqar.errors import InvalidError


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """TLS with certificates from PEM files. Raises InvalidError for a client certificate without its key."""

    ca: str | os.PathLike[str] | None = None  # CAs to trust; None: those that gRPC brings along
    cert: str | os.PathLike[str] | None = None  # the client's own certificate chain, if the server wants one
    key: str | os.PathLike[str] | None = None  # and its key, without a password

    def __post_init__(self) -> None:
        """Check the values."""
        for name in self.__struct_fields__:
            path(getattr(self, name), f"tls.{name}")
        if (self.cert is None) != (self.key is None):
            raise InvalidError(
                "tls: a client certificate needs its key, and a key its certificate", reason="TLS", field="tls"
            )

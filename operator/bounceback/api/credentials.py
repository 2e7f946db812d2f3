"""How probes prove who they are, and whom they trust: by Secrets of the experiment's namespace, never by the spec."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from bounceback.types.fields import Model, ObjectName
from bounceback.types.rules import Path

SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
SecretPart = tuple[Path, str, str]
"""The way to the field that names a Secret, the Secret's name, and the key that it must have."""


class Login(Model):
    """A Secret with a password, and a user name where there is one; read as `spec.serviceAccountName`."""

    secret_name: ObjectName = Field(description="A Secret of the experiment's namespace.")
    username_key: SecretKey | None = Field(
        None, description="The key of the user's name; unset: `username`, where the Secret has one."
    )
    password_key: SecretKey = Field("password", description="The key of the password or token.")

    def secrets(self, *path: str | int) -> Iterator[SecretPart]:
        if self.username_key:
            yield (*path, "usernameKey"), self.secret_name, self.username_key
        yield (*path, "passwordKey"), self.secret_name, self.password_key


class SecretAuthorities(Model):
    """Certificates of authorities, in PEM."""

    secret_name: ObjectName = Field(description="A Secret of the experiment's namespace.")
    key: SecretKey = Field("ca.crt", description="The key that holds them.")

    def secrets(self, *path: str | int) -> Iterator[SecretPart]:
        yield (*path, "key"), self.secret_name, self.key


class ServerTls(Model):
    """TLS to the server; an empty mapping is TLS with the system's authorities."""

    verify: bool = Field(True, description="Whether the certificate must be trusted and be for the server's name.")
    authorities: SecretAuthorities | None = Field(None, description="Who may have signed it; unset: the system's.")
    server_name: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        None, description="The name that it must be for; unset: the host."
    )

    def secrets(self, *path: str | int) -> Iterator[SecretPart]:
        if self.authorities:
            yield from self.authorities.secrets(*path, "authorities")


class WorkloadTls(ServerTls):
    """TLS to the server; an empty mapping is TLS with the system's authorities."""

    authorities_file: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        None, description="bounceback workload: a file with them, in PEM, in the stead of a Secret."
    )

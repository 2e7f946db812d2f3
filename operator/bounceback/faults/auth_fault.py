"""Auth fault: the Kubernetes API no longer takes a client for who it is, or no longer lets it do what it may."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.client_fault import ClientFault, check_resources
from bounceback.types.api_rule import Act, Answer, OtherNamespace, Requests, SpoilToken, Token
from bounceback.types.fields import Model, Name
from bounceback.types.rules import Rule, exactly_one, one_of, refuse

FIELDS: Final = ("tokenExpired", "tokenInvalid", "tokenRevoked", "permissionDenied", "wrongNamespace")
NO_PATHS: Final = "nonResourcePaths must be unset with wrongNamespace: only resources are in a namespace"


class TokenExpired(Model):
    """401 for the tokens that the client has now: one that it gets while the fault lasts is taken."""


class TokenInvalid(Model):
    """401 for every token: a new one does not help."""


class TokenRevoked(Model):
    """401 for every token of this client, until it is made anew: a pod that replaces it has a new identity."""


class PermissionDenied(Model):
    """403 with the words that the API server's RBAC has for it; nobody's roles are touched."""


class WrongNamespace(Model):
    """Requests in a namespace reach the API server as ones in another."""

    namespace: Name = Field(description="The other one, for example one that does not exist.")


class AuthFault(ClientFault):
    """What a client sends to the Kubernetes API is refused for its token, its rights or its namespace.

    Tokens are spoilt on their way, so that the 401 is the API server's own; they are never kept nor shown. A client
    that shows a certificate instead of a token gets the same 401 from the proxy. Proof is the number of requests that
    were hit.
    """

    kind: ClassVar[str] = "authFault"
    rules: ClassVar[tuple[Rule, ...]] = (
        one_of(FIELDS),
        Rule(
            "!has(self.wrongNamespace) || !has(self.requests) || self.requests.all(r, "
            "!has(r.nonResourcePaths) || size(r.nonResourcePaths) == 0)",
            NO_PATHS,
            ".requests",
        ),
    )

    token_expired: TokenExpired | None = Field(
        None, description="401 for the tokens that the client has now; healed by a refresh."
    )
    token_invalid: TokenInvalid | None = Field(None, description="401 for every token; not healed by a refresh.")
    token_revoked: TokenRevoked | None = Field(
        None, description="401 for every token until the client is made anew; not healed by a refresh or a restart."
    )
    permission_denied: PermissionDenied | None = Field(None, description="403, as without the rights for it.")
    wrong_namespace: WrongNamespace | None = Field(None, description="Requests are for another namespace.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        acts = (
            self.token_expired,
            self.token_invalid,
            self.token_revoked,
            self.permission_denied,
            self.wrong_namespace,
        )
        given = [name for name, value in zip(FIELDS, acts, strict=True) if value is not None]
        if len(given) != 1:
            raise refuse(exactly_one(FIELDS, given))
        if self.wrong_namespace is not None:
            check_resources(self.requests, NO_PATHS)
        return self

    def about(self) -> tuple[Requests, ...]:
        """A token that is refused is refused for /version, too."""
        on_token = self.permission_denied is None and self.wrong_namespace is None
        return () if on_token and not self.requests else super().about()

    def act(self) -> Act:
        if self.permission_denied is not None:
            return Answer(403)
        if self.wrong_namespace is not None:
            return OtherNamespace(self.wrong_namespace.namespace)
        return SpoilToken(Token.CURRENT if self.token_expired is not None else Token.ALL)

"""What a check has of a workload: operations that go on while an experiment runs, and what must come of them."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.api.credentials import SecretAuthorities, SecretKey
from bounceback.api.workload import STORES, Workload
from bounceback.types.fields import Model, ObjectName
from bounceback.types.rules import Rule, refuse

LONGEST: Final = 86_400
NO_END: Final = "must be given with load.ramp: the rate grows, or falls, over these seconds"
NO_ENVIRONMENT: Final = "must be unset in a check, whose pod has no environment of yours: give passwordFrom, a Secret"
NO_KUBECONFIG: Final = "must be unset in a check, whose pod asks as the experiment's account"
NO_FILE: Final = "must be unset in a check, whose pod has no files of yours: give authorities, a Secret"
NO_PASSWORD: Final = "must be unset without redis, sql and nats, which alone take a password"
NO_BOUND: Final = "throughputPercent or latencyP99Percent must be given"


class Performance(Model):
    """Back means: as fast as before the fault, by the workload's own seconds before and after it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("has(self.throughputPercent) || has(self.latencyP99Percent)", NO_BOUND, reason="FieldValueRequired"),
    )

    throughput_percent: int | None = Field(
        None, ge=1, le=100, description="At least so much of the baseline's throughput."
    )
    latency_p99_percent: int | None = Field(
        None, ge=100, le=10_000, description="At most so much of the baseline's 99th percentile of latency."
    )
    within_seconds: int = Field(
        30,
        ge=1,
        le=3600,
        description="From cleared until it is back, and stays so; with expect: Manual from when the repair began.",
    )

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.throughput_percent is None and self.latency_p99_percent is None:
            raise refuse(NO_BOUND)
        return self


class PasswordFrom(Model):
    """Where the password is; it gets into the pod's environment, and nowhere else."""

    secret_name: ObjectName = Field(description="A Secret of the experiment's namespace.")
    key: SecretKey = Field("password", description="The key of the password, or of the token.")


class CheckWorkload(Workload):
    """The workload of `bounceback workload`, carried out by a pod of its own for the length of a run."""

    in_a_check: ClassVar[bool] = True
    rules: ClassVar[tuple[Rule, ...]] = (
        *Workload.rules,
        Rule(
            f"!has(self.load) || !has(self.load.ramp) || (has(self.seconds) && self.seconds < {LONGEST})",
            NO_END,
            ".seconds",
        ),
        *(
            Rule(
                f"!has(self.{name}) || !has(self.{name}.passwordVariable)",
                NO_ENVIRONMENT,
                f".{name}.passwordVariable",
                reason="FieldValueForbidden",
            )
            for name in STORES
        ),
        *(
            Rule(
                f"!has(self.{name}) || !has(self.{name}.tls) || !has(self.{name}.tls.authoritiesFile)",
                NO_FILE,
                f".{name}.tls.authoritiesFile",
                reason="FieldValueForbidden",
            )
            for name in STORES
        ),
        Rule(
            "!has(self.kubernetes) || !has(self.kubernetes.kubeconfig)",
            NO_KUBECONFIG,
            ".kubernetes.kubeconfig",
            reason="FieldValueForbidden",
        ),
        Rule(
            f"!has(self.passwordFrom) || {' || '.join(f'has(self.{name})' for name in STORES)}",
            NO_PASSWORD,
            ".passwordFrom",
            reason="FieldValueForbidden",
        ),
    )

    seconds: int = Field(
        LONGEST,
        ge=1,
        le=LONGEST,
        description="At most so long are operations begun. The load lasts as long as the run; one that ends before "
        "decides nothing.",
    )
    most_operations: int = Field(
        2_000_000,
        ge=1,
        le=10_000_000,
        description="After so many no more are begun: each takes about 100 bytes of the pod's memory.",
    )
    baseline_seconds: int = Field(
        3, ge=1, le=3600, description="For at least so long operations go on before anything is injected."
    )

    password_from: PasswordFrom | None = Field(
        None, description="redis, sql, nats: the password of the user, or a token for nats without a user; unset: none."
    )

    def asking_with(self, variable: str) -> Self:
        """As it is carried out where that environment variable has the password."""
        if self.password_from is None:
            return self
        update = {"password_variable": variable}
        return self.model_copy(update={name: each.model_copy(update=update) for name, each in self.stores.items()})

    @property
    def authorities(self) -> SecretAuthorities | None:
        """The Secret with those that its `tls` names."""
        named = [each.tls.authorities for each in self.stores.values() if each.tls is not None]
        return named[0] if named else None

    @model_validator(mode="after")
    def _asks_as_the_account(self) -> Self:
        if self.kubernetes is not None and self.kubernetes.kubeconfig is not None:
            raise refuse(NO_KUBECONFIG, "kubernetes", "kubeconfig")
        return self

    @model_validator(mode="after")
    def _secrets_are_in_secrets(self) -> Self:
        for name, store in self.stores.items():
            if store.password_variable is not None:
                raise refuse(NO_ENVIRONMENT, name, "passwordVariable")
            if store.tls is not None and store.tls.authorities_file is not None:
                raise refuse(NO_FILE, name, "tls", "authoritiesFile")
        if self.password_from is not None and not self.stores:
            raise refuse(NO_PASSWORD, "passwordFrom")
        return self

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.load.ramp is not None and self.seconds == LONGEST:
            raise refuse(NO_END, "seconds")
        return self

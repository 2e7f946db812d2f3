"""What a check has of a workload: operations that go on while an experiment runs, and what must come of them."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.api.credentials import SecretKey
from bounceback.api.workload import Workload
from bounceback.types.fields import Model, ObjectName
from bounceback.types.rules import Rule, refuse

LONGEST: Final = 86_400
NO_END: Final = "must be given with load.ramp: the rate grows, or falls, over these seconds"
NO_ENVIRONMENT: Final = "must be unset in a check, whose pod has no environment of yours: give passwordFrom, a Secret"
NO_KUBECONFIG: Final = "must be unset in a check, whose pod asks as the experiment's account"
NO_PASSWORD: Final = "must be unset without sql and nats, which alone take a password"
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
            for name in ("sql", "nats")
        ),
        Rule(
            "!has(self.kubernetes) || !has(self.kubernetes.kubeconfig)",
            NO_KUBECONFIG,
            ".kubernetes.kubeconfig",
            reason="FieldValueForbidden",
        ),
        Rule(
            "!has(self.passwordFrom) || has(self.sql) || has(self.nats)",
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
        None, description="sql, nats: the password of the user, or a token for nats without a user; unset: none."
    )

    def asking_with(self, variable: str) -> Self:
        """As it is carried out where that environment variable has the password."""
        if self.password_from is None:
            return self
        systems = {"sql": self.sql, "nats": self.nats}
        update = {"password_variable": variable}
        return self.model_copy(
            update={name: each.model_copy(update=update) for name, each in systems.items() if each is not None}
        )

    @model_validator(mode="after")
    def _asks_as_the_account(self) -> Self:
        if self.kubernetes is not None and self.kubernetes.kubeconfig is not None:
            raise refuse(NO_KUBECONFIG, "kubernetes", "kubeconfig")
        return self

    @model_validator(mode="after")
    def _password_is_in_a_secret(self) -> Self:
        for name, system in (("sql", self.sql), ("nats", self.nats)):
            if system is not None and system.password_variable is not None:
                raise refuse(NO_ENVIRONMENT, name, "passwordVariable")
        if self.password_from is not None and self.sql is None and self.nats is None:
            raise refuse(NO_PASSWORD, "passwordFrom")
        return self

    @model_validator(mode="after")
    def _has_an_end(self) -> Self:
        if self.load.ramp is not None and self.seconds == LONGEST:
            raise refuse(NO_END, "seconds")
        return self

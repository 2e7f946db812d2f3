"""Figures of the system: what a Prometheus server answers to PromQL, or what a page of metrics shows.

The server of the HTTP API (https://prometheus.io/docs/prometheus/latest/querying/api/) is what we look with, and not
what is looked at: where it is silent, or knows nothing, nobody looked. A page of metrics is the system's own.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bounceback.api.looks import MetricPods, PrometheusLook
from bounceback.api.looks_inside import PodChoice
from bounceback.kube.errors import KubeError
from bounceback.recovery.errors import CannotLookError, NotHealthyError, UnansweredError
from bounceback.recovery.judging import Values, judge
from bounceback.recovery.looks import first_bytes, in_a_line
from bounceback.recovery.means import Means
from bounceback.recovery.objects import UNANSWERED
from bounceback.recovery.pods import cannot, chosen_pods, is_ready

LARGEST_PAGE: Final = 4 * 1024 * 1024
SHARE: Final = 0.9
"""Of the timeout is the server's: the rest is for telling its silence from the system's."""
Series = tuple[dict[str, str], float]


async def ask_by_prometheus(means: Means, look: PrometheusLook, seconds: float) -> Values:
    """The expression is held against each series; of those that do not hold the first is told.

    Raises NotHealthyError, CannotLookError.
    """
    found = await _queried(means, look, seconds * SHARE) if look.query else await _shown(means, look)
    for labels, value in found:
        values = {"value": value, "labels": labels}
        if wrong := judge(look.expression, values):
            raise NotHealthyError(f"{wrong}; value {value:g} of {_written(labels)}")
    return {"value": found[0][1], "labels": found[0][0]}


async def _queried(means: Means, look: PrometheusLook, seconds: float) -> Sequence[Series]:
    assert look.url is not None and look.query is not None
    address = look.url.rstrip("/") + "/api/v1/query"
    try:
        async with (
            asyncio.timeout(seconds),
            means.session.post(address, data={"query": look.query, "timeout": f"{seconds * 1000:.0f}ms"}) as answer,
        ):
            body = await first_bytes(answer, LARGEST_PAGE)
    except TimeoutError as error:
        raise CannotLookError(f"Prometheus at {look.url} did not answer within {seconds:.1f} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise CannotLookError(f"Prometheus at {look.url}: {in_a_line(error)}") from error
    try:
        told = json.loads(body)
    except ValueError as error:
        raise CannotLookError(f"{look.url} is no Prometheus server: status {answer.status} and no JSON") from error
    if not isinstance(told, dict) or told.get("status") != "success":
        why = told.get("error") if isinstance(told, dict) else None
        raise CannotLookError(f"Prometheus refuses the query: {str(why or answer.status)[:300]}")
    found = series_of(told["data"])
    if not found:
        raise CannotLookError(f"the query returns nothing: {look.query}; `or vector(0)` stands in where that is meant")
    return found


def series_of(data: dict[str, Any]) -> list[Series]:
    """From the `data` of an instant query. Raises CannotLookError."""
    match data["resultType"]:
        case "vector":
            return [(dict(each["metric"]), float(each["value"][1])) for each in data["result"]]
        case "scalar":
            return [({}, float(data["result"][1]))]
    raise CannotLookError(f"the query must return a scalar or an instant vector, and returns a {data['resultType']}")


async def _shown(means: Means, look: PrometheusLook) -> Sequence[Series]:
    assert look.metric is not None
    pages = [look.url] if look.url else await _pages(means, look.pods)
    read = await asyncio.gather(*(_page(means, page) for page in pages))
    found: list[Series] = []
    for page, text in zip(pages, read, strict=True):
        there = shown_series(text, look.metric, look.labels)
        if not there:
            raise NotHealthyError(f"{page} shows no {look.metric}{_written(look.labels) if look.labels else ''}")
        found += there
    return found


async def _pages(means: Means, wanted: MetricPods | None) -> list[str]:
    assert wanted is not None
    try:
        pods = await chosen_pods(means, PodChoice(selector=wanted.selector))
    except KubeError as error:
        raise cannot("list pods", error) from error
    except UNANSWERED as error:
        raise UnansweredError("the API server does not answer") from error
    addresses = [pod["status"]["podIP"] for pod in pods if is_ready(pod)]
    if not addresses:
        raise NotHealthyError(f"pods {wanted.selector}: none is ready")
    hosts = [f"[{address}]" if ":" in address else address for address in addresses]
    return [f"http://{host}:{wanted.port}{wanted.path}" for host in hosts]


async def _page(means: Means, address: str) -> str:
    try:
        async with means.session.get(address) as answer:
            body = await first_bytes(answer, LARGEST_PAGE)
    except (aiohttp.ClientError, OSError) as error:
        raise NotHealthyError(f"{address}: {in_a_line(error)}") from error
    if answer.status != 200:
        raise NotHealthyError(f"{address}: status {answer.status}, expected 200")
    return body.decode(errors="replace")


def shown_series(page: str, metric: str, labels: dict[str, str]) -> list[Series]:
    """What a page in the text format shows of a metric, as it is written there. Raises NotHealthyError."""
    lines = [
        line for line in page.splitlines() if line.startswith(metric) and line[len(metric) :][:1] in ("{", " ", "\t")
    ]
    try:
        samples = [s for family in text_string_to_metric_families("\n".join(lines) + "\n") for s in family.samples]
    except (ValueError, KeyError, IndexError) as error:
        raise NotHealthyError(f"the page is not in Prometheus' text format: {error}"[:200]) from error
    return [
        (dict(sample.labels), float(sample.value))
        for sample in samples
        if labels.items() <= sample.labels.items() and not math.isnan(sample.value)
    ]


def _written(labels: dict[str, str]) -> str:
    return "{" + ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items())) + "}"

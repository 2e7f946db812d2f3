"""What is known to pass and what is known to fail: for each way to look, to judge and to end, one system of each.

    python -m tests.calibration            writes docs/calibration.md
    python -m tests.calibration --given    runs the tests that it names, and says what was given besides

tests/unit/test_calibration.py holds it to the API: a new kind of probe, say, must be entered here with both.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

PROJECT: Final = Path(__file__).parent.parent
PAGE: Final = PROJECT / "docs" / "calibration.md"
EXPECTED: Final = "bounceback.dev/expected-verdict."

LOOKS = "tests/integration/test_recovery_looks.py"
NETWORK = "tests/integration/test_recovery_network.py"
STORES = "tests/integration/test_recovery_stores.py"
INSIDE = "tests/integration/test_recovery_inside.py"
OBJECTS = "tests/integration/test_recovery_objects.py"
SIGNALS = "tests/integration/test_recovery_signals.py"
ASPECTS = "tests/unit/test_aspects.py::test_an_aspect_passes_one_system_and_fails_another"
JUDGE = "tests/unit/test_judge.py"
SNAPSHOTS = "tests/unit/test_snapshots.py"
AT_CLEAR = "test_one_that_does_not_name_it_is_judged_all_the_same"
UNCHANGED = "tests/unit/test_unchanged.py"
BY_NAME = "test_objects_are_compared_by_name_without_what_the_cluster_gives_out"
MASKED = "test_what_may_differ_is_masked_and_all_else_is_told_with_its_path_and_both_values"
REFERENCE = "tests/unit/test_reference_run.py::test_what_came_of_the_comparison_is_on_the_consistency_axis"


@dataclass(frozen=True)
class Side:
    """A system, what must be said of it, and the test that holds to it."""

    system: str
    expected: str
    test: str


@dataclass(frozen=True)
class Pair:
    kind: str
    passes: Side
    fails: Side


def pair(kind: str, test: str, sound: str, broken: str, said: str, other: str = "", well: str = "healthy") -> Pair:
    """`other`: the broken one's test, where it is not the same."""
    return Pair(kind, Side(sound, well, test), Side(broken, said, other or test))


PROBES: Final = (
    pair("http", f"{LOOKS}::test_an_answer_is_healthy_when_it_is_as_expected", "answers 200", "answers 503",
         "status 503, expected 200"),
    pair("tcp", f"{LOOKS}::test_tcp_is_healthy_when_a_connection_opens", "listens", "listens no more",
         "connection refused"),
    pair("dns", f"{NETWORK}::test_dns", "CoreDNS has the record", "CoreDNS has another",
         "10.0.0.7, expected 10.0.0.8"),
    pair("tls", f"{NETWORK}::test_tls", "a certificate for 90 days", "one that has expired",
         "certificate not trusted: certificate has expired"),
    pair("grpc", f"{NETWORK}::test_grpc", "grpcio's server says SERVING", "it says NOT_SERVING", "down is NOT_SERVING"),
    pair("prometheus", f"{NETWORK}::test_promql", "Prometheus has a series of 7, which is asked for",
         "fewer than 5 are", "value < 5 is false"),
    pair("kubernetes", f"{OBJECTS}::test_a_change_is_known_when_it_is_told_and_lies_in_its_interval",
         "the object says up", "it says down", "object.data.state == 'up' is false"),
    pair("event", f"{INSIDE}::test_events_are_moments_and_say_what_the_trouble_is", "no Event for so long",
         "a Warning comes", "SlowAnswer: the store is slow"),
    pair("log", f"{INSIDE}::test_lines_of_logs", "no such line for so long", "a panic in the log", "panic: and die"),
    pair("exec", f"{INSIDE}::test_commands_and_jobs", "the command ends with 0", "it ends with 2",
         "exit code 2: no space"),
    pair("job", f"{INSIDE}::test_commands_and_jobs", "the Job completes", "its pod ends with 1", "the Job failed"),
    pair("sql", f"{STORES}::test_postgresql", "PostgreSQL has what is asked for", "it has fewer",
         "rows[0].n > 1 is false"),
    pair("redis", f"{STORES}::test_redis", "Redis replies", "it has no memory left", "command not allowed"),
    pair("nats", f"{STORES}::test_nats", "the consumer is where it should be", "it is behind",
         "consumer.num_pending == 0 is false"),
)  # fmt: skip

FROM_A_POD = "tests/relay/test_prober_look.py::test_what_it_sees_is_what_is_there"
VANTAGES: Final = (
    pair("Operator", f"{LOOKS}::test_an_answer_is_healthy_when_it_is_as_expected", "answers 200", "answers 503",
         "status 503, expected 200"),
    pair("Pod", FROM_A_POD, "answers 200", "answers 404", "status 404, expected 200"),
)  # fmt: skip

OF_A_KIND = f"{SIGNALS}::test_a_signal_of_this_kind"
SIGNALLED: Final = (
    *(
        pair(kind, OF_A_KIND, "says that it is in trouble", "says nothing of it", "not detected", well="detected")
        for kind in ("http", "dns", "tls", "grpc", "prometheus", "sql", "redis", "nats")
    ),
    pair("tcp", f"{SIGNALS}::test_a_port_that_opens_is_a_signal_and_one_that_is_closed_is_none", "opens a port",
         "opens none", "not detected", well="detected"),
    pair("kubernetes", f"{INSIDE}::test_commands_and_jobs", "the object says so", "it says otherwise", "not detected",
         well="detected"),
    pair("event", f"{INSIDE}::test_events_are_moments_and_say_what_the_trouble_is", "an Event about redis",
         "one about something else", "not detected", well="detected"),
    pair("log", f"{INSIDE}::test_lines_of_logs", "a line of level error", "no panic yet", "not detected",
         well="detected"),
    pair("exec", f"{INSIDE}::test_commands_and_jobs", "the command ends with 0", "it ends with 1", "not detected",
         well="detected"),
    pair("job", f"{INSIDE}::test_commands_and_jobs", "the Job completes", "it fails", "not detected", well="detected"),
)  # fmt: skip

GONE = f"{SIGNALS}::test_a_store_that_is_gone_cannot_be_observed"
AGREE = f"{STORES}::test_stores_are_observed_and_held_against_each_other"
OBSERVED: Final = (
    pair("http", f"{LOOKS}::test_observations_are_read_by_name", "answers JSON", "answers 500",
         "status 500, expected 200", f"{LOOKS}::test_what_cannot_be_observed_is_named_with_the_reason", "read"),
    pair("kubernetes", f"{OBJECTS}::test_objects_are_observed", "the objects are there", "the object is gone",
         "404 NotFound", well="read"),
    pair("exec", f"{INSIDE}::test_commands_and_jobs", "the command writes JSON", "it ends with 2", "exit code 2",
         well="read"),
    pair("sql", AGREE, "PostgreSQL answers", "it is gone", "connection refused", GONE, "read"),
    pair("redis", AGREE, "Redis answers", "it is gone", "connection refused", GONE, "read"),
    pair("nats", AGREE, "NATS answers", "it is gone", "connection refused", GONE, "read"),
)  # fmt: skip

INVARIANTS: Final = (
    pair("across two stores", AGREE, "as many keys in Redis as rows in PostgreSQL", "a key is missing", "false",
         well="true"),
    pair("what was lost", f"{ASPECTS}", "an order more than before", "one fewer", "Failed: InvariantBroken",
         f"{JUDGE}::test_lost_data_outweighs_everything_also_after_an_abort", "Passed"),
    pair("the end of a run without faults", REFERENCE, "is as it was there", "a copy that nobody took away",
         "Failed: DiffersFromReference", well="Passed"),
    pair("what must be unchanged", f"{UNCHANGED}::{MASKED}", "differs where that is masked", "an order has changed",
         "Failed: /1/n is 4, and was 5 before the fault", well="Passed"),
    pair("objects that must be unchanged", f"{UNCHANGED}::{BY_NAME}",
         "was made anew, the same", "has another colour", "Failed", well="Passed"),
    pair("nothing that is unchanged", f"{UNCHANGED}::{MASKED}", "there was something", "there was nothing before",
         "Inconclusive", f"{UNCHANGED}::test_nothing_compared_with_nothing_is_no_sameness", "Passed"),
    pair("what was lost after the fault", f"{SNAPSHOTS}::test_what_the_recovery_loses_is_told_from_what_the_fault_did",
         "has what it had at clear", "loses it as it recovers", "Failed", well="Passed"),
    pair("what was not read at clear", f"{SNAPSHOTS}::{AT_CLEAR}", "all that an invariant names was read",
         "it names what did not answer", "Inconclusive: clear.orders: connection refused",
         f"{SNAPSHOTS}::test_an_invariant_that_names_what_could_not_be_read_is_undecided_and_says_why", "Passed"),
    pair("what was not read", f"{ASPECTS}", "read before and after", "not read after", "Inconclusive",
         f"{JUDGE}::test_an_invariant_over_something_that_was_not_read_is_undecided", "Passed"),
    pair("what says nothing", "tests/unit/test_verdict_truth.py::test_what_shows_everything_passes",
         "speaks of what was observed after the fault", "the expression is `true`", "Inconclusive",
         "tests/unit/test_verdict_truth.py::test_with_any_one_piece_of_the_evidence_missing_it_does_not", "Passed"),
)  # fmt: skip

JUDGED: Final = (
    pair("detection", ASPECTS, "its own signal held", "it never did", "Failed: NotDetected", well="Passed"),
    pair("categorization", f"{JUDGE}::test_a_system_that_names_another_trouble_fails", "named the trouble rightly",
         "named another", "Failed: NamedWrongly", well="Passed"),
    pair("strategy", f"{JUDGE}::test_how_clients_took_it_decides_where_a_check_asks", "clients backed off and waited",
         "one did not wait as long as it was told", "Failed: ClientMisbehaved", well="Passed"),
    pair("success", ASPECTS, "came back", "did not", "Failed: NotRecovered", well="Passed"),
    pair("consistency", ASPECTS, "has all that it had", "lost an order", "Failed: InvariantBroken", well="Passed"),
    pair("performance", "tests/unit/test_performance.py::test_a_system_is_as_fast_again_in_time_or_it_is_not",
         "was as fast as before within 8 s", "was not", "Failed: PerformanceNotBack", well="Passed"),
)  # fmt: skip

BROKEN = "tests/relay/test_workloads.py::test_a_store_that_breaks_a_promise_fails_by_that_flaw"
KEPT = "tests/relay/test_workloads.py::test_a_store_that_keeps_its_promises_passes"
FLAWS = {"Register": "Stale", "Set": "Lost, Duplicated", "Counter": "Lost, Duplicated", "Queue": "Lost, Reordered"}
WORKED: Final = tuple(
    pair(model, KEPT, "keeps its promises", f"breaks them: {flaws}", "Failed", BROKEN, "Passed")
    for model, flaws in FLAWS.items()
)

PROBER = "tests/relay/test_prober.py"
WORKING = "tests/unit/test_working.py"
SOUND = f"{WORKING}::test_an_account_without_a_flaw_passes_and_says_what_it_is_about"
ACCOUNTS: Final = (
    pair("in a prober pod", f"{PROBER}::test_it_operates_until_it_is_told_to_end_and_accounts_for_all",
         "keeps its promises", "loses one in ten", "Failed", well="Passed"),
    pair("of a run", SOUND, "has all that it acknowledged", "lost two", "Failed: PromiseBroken",
         f"{WORKING}::test_an_acknowledged_write_that_is_lost_fails_whatever_else_there_is", "Passed"),
    pair("that is none", SOUND, "the prober gave its account", "it died, or nothing was acknowledged", "Inconclusive",
         f"{WORKING}::test_what_is_not_known_never_passes", "Passed"),
)  # fmt: skip

OUTCOMES: Final = (
    pair("Recover", f"{JUDGE}::test_a_proven_fault_that_is_cleared_and_recovered_from_passes", "is back after 1.5 s",
         "answers 503 for ever", "Failed: NotRecovered", f"{JUDGE}::test_a_system_that_does_not_come_back_fails",
         "Passed"),
    pair("FailSafe", f"{JUDGE}::test_fail_safe_needs_the_declared_error_state", "reached its error state and kept it",
         "did not", "Failed: ErrorStateNotHeld", well="Passed"),
    pair("Manual", "tests/unit/test_manual.py::test_one_that_does_all_that_is_asked_passes",
         "called for somebody, stayed in its error state, came back after the repair", "came back by itself",
         "Failed: CameBackByItself", "tests/unit/test_manual.py::test_each_thing_that_is_missing_is_found_and_decides",
         "Passed"),
)  # fmt: skip

SHOWN = f"{NETWORK}::test_the_chain_that_a_server_shows"
CHAINS: Final = (
    pair("expiry", SHOWN, "all that is shown is valid", "the one between has expired",
         "certificate 2 of 3, CN=lower, was valid until"),
    pair("completeness", SHOWN, "leads to a root that is trusted", "the one between is missing",
         "unable to get local issuer certificate; CN=lower is neither"),
    pair("order", SHOWN, "each is followed by its issuer", "the upper one comes first", "the chain is not in order"),
)  # fmt: skip

WORKLOAD = "tests/relay/test_workload"
WORKLOADS: Final = (
    pair("http", f"{WORKLOAD}s.py::test_a_store_that_keeps_its_promises_passes", "keeps all", "forgets each 13th",
         "Failed: Lost", f"{WORKLOAD}s.py::test_a_store_that_breaks_a_promise_fails_by_that_flaw", "Passed"),
    pair("http, JSON-RPC", f"{WORKLOAD}s.py::test_a_store_by_json_rpc_is_told_from_one_that_breaks_a_promise",
         "keeps all", "forgets every other", "Failed: Stale", well="Passed"),
    pair("redis", f"{WORKLOAD}_redis.py::test_a_redis_that_writes_before_it_answers_loses_nothing",
         "Redis with appendfsync always, killed", "one that keeps nothing on disk, killed", "Failed: Lost",
         f"{WORKLOAD}_redis.py::test_a_redis_that_keeps_nothing_on_disk_loses_what_it_had_acknowledged", "Passed"),
    pair("sql, PostgreSQL",
         f"{WORKLOAD}_sql.py::test_postgresql_loses_what_it_commits_asynchronously_when_it_crashes",
         "crashes with synchronous_commit=on", "crashes with synchronous_commit=off", "Failed: Lost", well="Passed"),
    pair("sql, MySQL", f"{WORKLOAD}_sql.py::test_mariadb_loses_what_it_has_not_written_when_it_is_killed",
         "MariaDB writes its log at each commit, killed", "it writes it each second, killed", "Failed: Lost",
         well="Passed"),
    pair("nats, what is lost", f"{WORKLOAD}_nats.py::test_a_stream_that_refuses_the_newest_has_failed_and_lost_nothing",
         "a full stream refuses", "a full stream drops the oldest", "Failed: Lost",
         f"{WORKLOAD}_nats.py::test_a_stream_that_drops_the_oldest_has_lost_them", "Passed"),
    pair("nats, what comes twice", f"{WORKLOAD}_nats.py::test_what_comes_twice_is_kept_once_by_its_message_id_only",
         "messages come twice, with a Nats-Msg-Id", "they come twice without one", "Failed: Duplicated",
         well="Passed"),
    pair("kubernetes", "tests/integration/test_workload_objects.py::test_objects_that_are_left_alone_pass",
         "a real API server", "somebody deletes five ConfigMaps", "Failed: Lost",
         "tests/integration/test_workload_objects.py::test_somebody_who_cleans_up_is_told", "Passed"),
)  # fmt: skip

SECTIONS: Final[dict[str, tuple[Pair, ...]]] = {
    "Probes": PROBES,
    "Vantages": VANTAGES,
    "Chains of certificates": CHAINS,
    "Signals": SIGNALLED,
    "Observations": OBSERVED,
    "Invariants": INVARIANTS,
    "Aspects": JUDGED,
    "Workloads": WORKED,
    "Systems of workloads": WORKLOADS,
    "Accounts": ACCOUNTS,
    "Outcomes": OUTCOMES,
}

HEAD: Final = """# Calibration

An instrument that has never told a broken system from a sound one proves nothing. For each way to look, to judge and
to end there is a system here that must pass and one that must fail; the tests named run both, and fail where what is
given is not what is expected. What `python -m tests.calibration` writes this page from is held to the API: nothing
can be added to that without both. `python -m tests.calibration --given` runs these tests and says what was given.

Whether figures can be trusted is held by [other tests](timeline.md): `tests/integration/test_recovery_truth.py` (a
hundred known outages over real sockets), `tests/unit/test_timeline_truth.py` (simulated ones),
`tests/unit/test_verdict_truth.py` (the verdict against its definition) and `tests/unit/test_clocks.py`.
"""

EXAMPLES: Final = """
## Examples
Whole runs on a real cluster, by `tests/e2e/test_examples.py`, or `tests/survival/test_nodes.py` for what takes a
policy: each example against each variant of its sample system.

| example | outcome | must pass | must fail |
|---|---|---|---|
"""


def page(given: dict[str, str] | None = None) -> str:
    """The text of the page; with what each test gave where they were run."""
    parts = [HEAD]
    for title, pairs in SECTIONS.items():
        columns = ["", "must pass", "is told", "must fail", "is told", "by"] + (["given"] if given is not None else [])
        parts += [f"\n## {title}\n", f"| {' | '.join(columns)} |\n", "|---" * len(columns) + "|\n"]
        parts += [_row(each, given) for each in pairs]
    return "".join(parts) + EXAMPLES + "".join(_examples())


def _row(each: Pair, given: dict[str, str] | None) -> str:
    tests = dict.fromkeys((each.passes.test, each.fails.test))
    cells = [each.kind, each.passes.system, f"`{each.passes.expected}`", each.fails.system, f"`{each.fails.expected}`"]
    cells.append(", ".join(f"`{test.rpartition('::')[2]}`" for test in tests))
    if given is not None:
        cells.append(", ".join(given.get(test, "not run") for test in tests))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _examples() -> Iterator[str]:
    for path in sorted((PROJECT / "examples").glob("*/experiment.yaml")):
        body: dict[str, Any] = yaml.safe_load(path.read_text())
        verdicts = {
            key.removeprefix(EXPECTED): verdict
            for key, verdict in body["metadata"]["annotations"].items()
            if key.startswith(EXPECTED)
        }
        sides = [", ".join(s for s, v in verdicts.items() if v == wanted) or "-" for wanted in ("Passed", "Failed")]
        name = path.parent.name
        outcome = body["spec"].get("expect", "Recover")
        yield f"| [{name}](../examples/{name}/) | {outcome} | {sides[0]} | {sides[1]} |\n"


def tests() -> Iterable[str]:
    """All that are named, once each."""
    return dict.fromkeys(
        side.test for pairs in SECTIONS.values() for each in pairs for side in (each.passes, each.fails)
    )


def run() -> dict[str, str]:
    """What each test gave: as expected, otherwise, or not run (where there is no cluster, say)."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report.name}", *tests()]
        subprocess.run(command, cwd=PROJECT, check=False, stdout=sys.stderr)
        cases = ET.parse(report.name).getroot().iter("testcase")
        given: dict[str, set[str]] = {}
        for case in cases:
            path = case.attrib["classname"].replace(".", "/") + ".py"
            ends = {child.tag for child in case}
            word = "otherwise" if ends & {"failure", "error"} else "not run" if "skipped" in ends else "as expected"
            given.setdefault(f"{path}::{case.attrib['name'].partition('[')[0]}", set()).add(word)
    return {
        test: next(w for w in ("otherwise", "not run", "as expected") if w in words) for test, words in given.items()
    }


def main() -> int:
    if sys.argv[1:] == ["--given"]:
        given = run()
        print(page(given))
        return int("otherwise" in given.values())
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())

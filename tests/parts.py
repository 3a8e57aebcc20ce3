"""A pytest plugin for the parts of the suite: which tests are in each, and what a run left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings

#: The part that `make test` runs: the tests without any of the markers below.
MAIN = "main"

#: The other parts: a test is in that of its first marker; `make test-all` runs all parts.
PARTS = ("timing", "browser", "peer", "killmatrix", "chaos", "cluster", "slow")

#: The command for each part.
TARGETS = {
    MAIN: "make test",
    "timing": "make timing",
    "peer": "make neighbours",
    "killmatrix": "make test-kill-matrix",
    "slow": "make test-long",
    **{name: f"make test-{name}" for name in ("browser", "chaos", "cluster")},
}

#: Prefixes of test ids, and the marker that these tests get, except those in STAYS.
MARKED = {
    "tests/failover/test_cluster.py": "cluster",
    "tests/failover/test_sentinel.py": "cluster",
    "tests/daemons/test_worker_kills.py::test_no_job_is_lost_or_counted_twice": "killmatrix",
    "tests/daemons/test_scheduler.py::test_each_job_is_on_its_queue_once_though": "killmatrix",
    "tests/web/test_command.py::test_a_page_killed_during_a_retry": "killmatrix",
    "tests/web/test_buttons.py::test_a_hundred_thousand_are_retried": "slow",
    "tests/web/test_buttons.py::test_all_that_match_of_a_hundred_thousand": "slow",
    "tests/web/test_pages.py::test_pages_of_a_million_jobs": "timing",
    "tests/daemons/test_greenlets.py::test_two_hundred_jobs_that_wait_a_tenth": "timing",
}

#: Prefixes of test names that stay in `make test`: enough to notice that the part is broken, and
#: tests with no special requirements.
STAYS = (
    "test_a_namespace_",
    "test_a_daemon_without_such_a_namespace_",
    "test_a_server_that_is_not_a_cluster_is_an_error",
    "test_any_node_leads_to_the_one_that_has_the_namespace",
    "test_a_pool_and_workers_of_every_kind_do_the_jobs_of_all_queues",
    "test_closing_closes_the_connections_to_the_sentinels_too",
    "test_all_continue_with_the_new_primary_and_none_of_its_data_is_lost",
)

#: Of these tests with many sets of parameters, `make test` runs this many, spread evenly over the
#: list, so that each value of a product of parameters occurs; the others are slow.
SAMPLED = {
    "tests/daemons/test_autoscale.py::test_an_invalid_range_is_a_one_line_error_and_exit_code_2": 3,
    "tests/daemons/test_calls.py::test_a_copy_that_comes_back_from_perform_does_nothing": 3,
    "tests/daemons/test_calls.py::test_a_base_exception_is_retried_and_counted": 3,
    "tests/daemons/test_clocks.py::test_a_clock_that_was_wrong_for_a_while_neither_repeats_nor": 12,
    "tests/daemons/test_error_replies.py::test_a_refusal_of_another_request_stops_no_fetch": 3,
    "tests/daemons/test_error_replies.py::test_a_start_on_an_unusable_server_is_a_one_line": 7,
    "tests/daemons/test_error_replies.py::test_no_error_reply_ends_a_daemon_that_has": 10,
    "tests/daemons/test_full_server.py::test_a_daemon_that_starts_on_a_full_server_drains": 2,
    "tests/daemons/test_full_server.py::test_a_daemon_whose_server_becomes_full_drains_it": 2,
    "tests/daemons/test_greenlets.py::test_two_hundred_jobs_wait_at_the_same_time": 1,
    "tests/daemons/test_log_failures.py::test_a_stderr_that_accepts_no_writes_fails_no_job": 3,
    "tests/daemons/test_main_jobs.py::test_a_script_that_cannot_be_imported_is_one_warning_for": 3,
    "tests/daemons/test_older_state.py::test_a_stopping_daemon_records_no_failure_for_a_job": 2,
    "tests/daemons/test_older_state.py::test_a_job_whose_outcome_redis_lost_is_neither_repeated": 2,
    "tests/daemons/test_older_state.py::test_a_job_whose_fetch_redis_lost_while_it_runs_is_done": 2,
    "tests/daemons/test_other_systems.py::test_a_pool_replaces_a_killed_minion_and_ends": 1,
    "tests/daemons/test_other_systems.py::test_a_scheduler_promotes_due_jobs_and_ends_after_a": 2,
    "tests/daemons/test_other_systems.py::test_a_worker_performs_a_backlog_without_pipe2": 1,
    "tests/daemons/test_outage_outcomes.py::test_a_disconnected_server_at_the_end_of_a_job": 4,
    "tests/daemons/test_malformed_payloads.py::test_an_object_that_is_not_a_job_is_a_failure": 1,
    "tests/daemons/test_malformed_payloads.py::test_a_malformed_payload_is_a_failure_that_keeps": 1,
    "tests/daemons/test_pool.py::test_a_wrong_value_is_a_one_line_error_and_exit_code_2": 5,
    "tests/daemons/test_process_1.py::test_orphans_under_any_command_are_reaped": 2,
    "tests/daemons/test_process_1.py::test_a_stop_signal_to_process_1_stops_the_daemon_in_order": 2,
    "tests/daemons/test_registry_keys.py::test_a_daemon_starts_works_and_stops_despite_a_key_of": 4,
    "tests/daemons/test_watch_pop.py::test_a_watcher_outlives_its_server": 1,
    "tests/daemons/test_worker_children.py::test_gevent_in_the_parent_stalls_no_job": 3,
    "tests/daemons/test_worker_command.py::test_a_stop_right_after_the_pidfile_appeared_is": 2,
    "tests/daemons/test_worker_stopping.py::test_a_job_pushed_in_the_very_moment_of_the": 1,
    "tests/daemons/test_worker_stopping.py::test_the_pause_key_stops_each_waiting_mode_and_only": 1,
    "tests/failover/test_acl.py::test_a_missing_right_is_reported_in_one_line": 4,
    "tests/failover/test_cluster.py::test_a_daemon_without_such_a_namespace_ends_at_once": 3,
    "tests/failover/test_tls.py::test_a_tls_port_used_without_tls_is_reported_in_one": 3,
    "tests/store/test_bounded_steps.py::test_a_scheduler_moves_due_jobs_in_bounded_steps": 2,
    "tests/store/test_bounded_steps.py::test_no_operation_reads_searches_or_deletes_a": 12,
    "tests/store/test_bounded_steps.py::test_a_timestamp_is_promoted_in_bounded_steps": 2,
    "tests/web/test_pages.py::test_what_ruby_wrote_shows": 12,
    "tests/web/test_wrong_keys.py::test_a_key_of_an_unexpected_type_is_named_on_every_page": 8,
    "tests/wire/test_as_ruby.py::test_a_worker_handles_a_signal_as_rubys_does": 6,
}

#: Examples that hypothesis tries in `make test`; otherwise its default.
EXAMPLES = 25

#: A word in the reason why a test is skipped, and the remedy.
REMEDIES = {
    "TLS": "apt-get install redis-server",
    "chromium": "apt-get install chromium",
    "openssl": "apt-get install openssl",
    "npm": "apt-get install nodejs npm",
    "RESQUE_RUBY": "see CONTRIBUTING.md",
}

#: The field of a pytest-xdist worker's output with the counts of left-out tests.
REPORTED = "left_out"


class Parts:
    """Runs only one part, and finally lists what was left out or skipped."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._left_out: Counter[str] = Counter()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        refuse_addresses(items)
        if self._config.args_source is pytest.Config.ArgsSource.TESTPATHS:
            refuse_unknown_names(items)
        mark(items)
        wanted = self._config.option.part
        if not wanted or is_chosen_by_name(self._config):
            return
        others = [item for item in items if part_of(item) != wanted]
        items[:] = [item for item in items if part_of(item) == wanted]
        self._config.hook.pytest_deselected(items=others)
        self._left_out = Counter(map(part_of, others))

    def pytest_sessionfinish(self) -> None:
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput[REPORTED] = dict(self._left_out)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self._left_out = Counter(getattr(node, "workeroutput", {}).get(REPORTED)) or self._left_out

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Print the list after pytest's last line, which is unchanged."""
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or hasattr(self._config, "workerinput"):
            return
        for line in [
            *(left_out(self._left_out) if self._config.option.part == MAIN else []),
            *skipped(reporter.stats.get("skipped", [])),
        ]:
            reporter.write_line(line)


def refuse_addresses(items: Iterable[pytest.Item]) -> None:
    """Raise for ids with memory addresses: parallel processes must have equal ids."""
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"invalid test id {item.nodeid!r}: expected no memory address")


def refuse_unknown_names(items: Iterable[pytest.Item]) -> None:
    """Raise for entries without a test: a renamed test would change its part unnoticed."""
    ids, names = [item.nodeid for item in items], [item.name for item in items]
    prefixes = [*MARKED, *SAMPLED]
    unknown = [prefix for prefix in prefixes if not any(id_.startswith(prefix) for id_ in ids)]
    unknown += [prefix for prefix in STAYS if not any(name.startswith(prefix) for name in names)]
    if unknown:
        raise pytest.UsageError(f"invalid entries in tests/parts.py {unknown}: expected tests")


def mark(items: Iterable[pytest.Item]) -> None:
    """Give each test its marker, by the prefixes of its id or name."""
    for item in items:
        for start, marker in MARKED.items():
            if item.nodeid.startswith(start) and not item.name.startswith(STAYS):
                item.add_marker(marker)
    for start, number in SAMPLED.items():
        sample([item for item in items if item.nodeid.startswith(start)], number)


def sample(items: list[pytest.Item], number: int) -> None:
    """Mark all but `number` of them, spread evenly over the list, as slow."""
    chosen = {at * len(items) // number for at in range(number)}
    for at, item in enumerate(items):
        if at not in chosen:
            item.add_marker("slow")


def part_of(item: pytest.Item) -> str:
    return next((name for name in PARTS if item.get_closest_marker(name)), MAIN)


def is_chosen_by_name(config: pytest.Config) -> bool:
    """Whether files or tests are selected on the command line: these run, in any part."""
    has_files = any(".py" in argument for argument in config.args)
    return bool(has_files or config.option.keyword or config.option.markexpr)


def left_out(counts: Counter[str]) -> list[str]:
    return [
        f"left out: {name} ({counts[name]} tests): {TARGETS[name]}"
        for name in TARGETS
        if counts[name]
    ]


def skipped(reports: list[Any]) -> list[str]:
    reasons = Counter(_reason(report) for report in reports)
    return [f"skipped: {count} tests: {reason}" for reason, count in sorted(reasons.items())]


def _reason(report: Any) -> str:
    """Why a test was skipped, with the remedy."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    remedy = next((remedy for word, remedy in REMEDIES.items() if word in reason), "")
    return f"{reason} ({remedy})" if remedy else reason


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--part",
        choices=[MAIN, *PARTS],
        help="run this part of the suite only, unless tests are named by path, -k or -m",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.option.part == MAIN:
        settings.register_profile(MAIN, settings.get_profile("pyres"), max_examples=EXAMPLES)
        settings.load_profile(MAIN)
    config.pluginmanager.register(Parts(config), "parts")

"""The metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CollectorRegistry, CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import generate_latest

from pyres.inspector import Inspector
from resweb.servers import Answer, Servers

TOTALS = {
    "pending": "Jobs on all queues",
    "failures": "Failure records stored",
    "workers": "Registered workers and minions",
    "working": "Workers with a running job",
    "delayed_timestamps": "Timestamps of delayed jobs",
}
COUNTERS = {"processed": "Jobs performed", "failed": "Jobs failed"}


def text(servers: Servers) -> bytes:
    """The metrics in Prometheus' text format, read from the servers now."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(servers))
    return generate_latest(registry)


def _question(inspector: Inspector) -> Any:
    queues = [(q.name, q.size, q.oldest) for q in inspector.queues(oldest=True)]
    beats = [w.heartbeat for w in inspector.workers() if w.heartbeat]
    return inspector.stats(), queues, beats, inspector.wrong_keys(worker_ids=inspector.worker_ids())


class _Collector:
    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        answers = self._servers.ask(_question)
        up = GaugeMetricFamily("resque_up", "Whether the server answers", labels=["server"])
        for answer in answers:
            up.add_metric([answer.server.name], 0 if answer.is_down else 1)
        yield up
        yield _unreadable(answers)
        results = [(answer.server, *answer.value) for answer in answers if not answer.error]
        yield from _totals(results)
        yield from _queues(results)
        oldest = GaugeMetricFamily(
            "resque_heartbeat_age_seconds", "Age of the oldest heartbeat", labels=["server"]
        )
        for server, _, _, beats, _ in results:
            if beats:
                oldest.add_metric([server.name], server.now() - min(beats))
        yield oldest


def _unreadable(answers: list[Answer]) -> Any:
    description = "Keys of an unexpected type, and requests that the server refused"
    metric = GaugeMetricFamily("resque_unreadable", description, labels=["server", "key", "error"])
    for answer in answers:
        name = answer.server.name
        if answer.error and not answer.is_down:
            metric.add_metric([name, "", answer.error], 1)
        for key in answer.value[-1] if not answer.error else ():
            metric.add_metric([name, key.key, key.error], 1)
    return metric


def _totals(results: list[Any]) -> Iterator[Any]:
    for descriptions, family in ((TOTALS, GaugeMetricFamily), (COUNTERS, CounterMetricFamily)):
        for field, description in descriptions.items():
            metric = family(f"resque_{field}", description, labels=["server"])
            for server, stats, *_ in results:
                metric.add_metric([server.name], getattr(stats, field))
            yield metric


def _queues(results: list[Any]) -> Iterator[Any]:
    labels = ["server", "queue"]
    depth = GaugeMetricFamily("resque_queue_jobs", "Jobs on a queue", labels=labels)
    oldest = GaugeMetricFamily(
        "resque_queue_oldest_age_seconds", "Age of the job at the queue's head", labels=labels
    )
    for server, _, queues, *_ in results:
        name, now = server.name, server.now()
        for queue, size, enqueued in queues:
            depth.add_metric([name, queue], size)
            if enqueued:
                oldest.add_metric([name, queue], now - enqueued)
    yield depth
    yield oldest

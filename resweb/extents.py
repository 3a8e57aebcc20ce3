"""Confirmation pages: what a button is about to change, counted now."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from pyres.failure.records import printable
from pyres.inspector import FailureCount, Inspector, job_row, name_of, url_id
from resweb.pages import filter_of
from resweb.posts import Form, Posts, field, jobs, place, records, timestamp_of
from resweb.servers import Answer, Server, Servers


class Confirmation(NamedTuple):
    """A question with its numbers, and details as (name, value)."""

    question: str
    details: list[tuple[str, str]]


class Confirmations:
    """Each method is for a button that asks for confirmation."""

    def __init__(self, servers: Servers, posts: Posts) -> None:
        self._servers = servers
        self._posts = posts

    def delete(self, form: Form) -> Confirmation:
        counts = Counter(failure.server.name for failure in self._posts.selected_failures(form))
        total = sum(counts.values())
        objects = "this failure" if total == 1 else f"the {total} selected failures"
        details = [(f"Server {name}", records(count)) for name, count in counts.items()]
        return Confirmation(f"Delete {objects} permanently?", details)

    def retry_all(self, form: Form) -> Confirmation:
        return self._all(form, "Retry", "")

    def delete_all(self, form: Form) -> Confirmation:
        return self._all(form, "Delete", " permanently")

    def _all(self, form: Form, verb: str, end: str) -> Confirmation:
        chosen, name = filter_of(form.to_dict()), name_of(form.get("list", ""))
        self._posts.chosen_servers(form)

        counted = chosen.for_retry() if verb == "Retry" else chosen

        def question(inspector: Inspector) -> FailureCount:
            count = inspector.count_failures(counted, [name] if name else [])
            # Without a filter the total is better than the count among the newest.
            is_exact = chosen or count.scanned == count.total
            return count if is_exact else FailureCount(*[count.total] * 3)

        answers = self._servers.ask(question, form.get("server", ""))
        counts = [answer.value for answer in answers if not answer.error]
        total = sum(count.matching for count in counts)
        at_least = "at least " if any(count.scanned < count.total for count in counts) else ""
        prefix = "all " if total > 1 and not chosen else at_least
        number = records(total).replace(" ", " matching ") if chosen else records(total)
        servers = (
            f"on {len(answers)} servers" if len(answers) > 1 else f"on {answers[0].server.name}"
        )
        return Confirmation(
            f"{verb} {prefix}{number} {servers}{end}?",
            [
                *_filter_details(form),
                *((f"Server {a.server.name}", _counted(a, bool(chosen))) for a in answers),
            ],
        )

    def remove_queue(self, form: Form) -> Confirmation:
        server, name = self._posts.server(form), name_of(field(form, "queue"))
        pending = jobs(server.inspector.queue_size(name))
        return Confirmation(f"Remove the queue {printable(name)} and {pending} on it?", _of(server))

    def move_queue(self, form: Form) -> Confirmation:
        server = self._posts.server(form)
        source, target = name_of(field(form, "queue")), name_of(field(form, "target"))
        inspector = server.inspector
        pending = jobs(inspector.queue_size(source))
        exists = url_id(target) in {row.handle for row in inspector.queues()}
        size = f"has {jobs(inspector.queue_size(target))} now"
        detail = (f"Queue {printable(target)}", size if exists else "is new: it does not exist yet")
        question = f"Move {pending} from {printable(source)} to {printable(target)}?"
        return Confirmation(question, [*_of(server), detail])

    def delete_job(self, form: Form) -> Confirmation:
        server, name = self._posts.server(form), name_of(field(form, "queue"))
        where = place(form, "job")
        job = server.inspector.find_job(name, where.token, where.position)
        details = [*_of(server), ("Queue", printable(name)), _job(job.raw if job else None)]
        return Confirmation("Delete 1 job permanently?", details)

    def delayed_cancel(self, form: Form) -> Confirmation:
        server, timestamp, where = self._posts.server(form), timestamp_of(form), place(form, "job")
        job = server.inspector.find_delayed(timestamp, where.token, where.position)
        details = [*_of(server), ("Timestamp", str(timestamp)), _job(job.raw if job else None)]
        return Confirmation("Cancel 1 delayed job permanently?", details)

    def pause(self, form: Form) -> Confirmation:
        server = self._posts.server(form)
        count = server.inspector.worker_count()
        return Confirmation(f"Pause all workers of {server.name}: {count} now?", _of(server))

    def khan(self, form: Form) -> Confirmation:
        server, khan = self._posts.server(form), name_of(field(form, "khan"))
        command = field(form, "command")
        pools = {row.handle: row.pool for row in server.inspector.khans()}
        details = [*_of(server), ("Minions", pools.get(url_id(khan), "no longer registered"))]
        return Confirmation(f"Send {command[:30]} to the manager {printable(khan)}?", details)


def _of(server: Server) -> list[tuple[str, str]]:
    return [("Server", server.name)]


def _job(raw: bytes | None) -> tuple[str, str]:
    if raw is None:
        return "Job", "is no longer there"
    row = job_row(raw)
    return "Job", f"{row.klass} {row.args}"


def _filter_details(form: Form) -> list[tuple[str, str]]:
    """The list and the filter of a form."""
    names = ("list", "queue", "class", "exception", "text", "retried")
    return [(name.capitalize(), form[name]) for name in names if form.get(name)]


def _counted(answer: Answer, filtered: bool) -> str:
    if answer.error:
        return "does not answer now"
    count: FailureCount = answer.value
    if not filtered and count.matching == count.total:
        return records(count.total)
    if count.scanned == count.total:
        return f"{count.matching} of {records(count.total)}"
    return f"{count.matching} of the newest {count.scanned}, of {count.total} in all"

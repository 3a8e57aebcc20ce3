"""What a button is about to change, counted now: said on the page that asks before it is done."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from pyres.failure.records import printable
from pyres.inspector import FailureCount, Inspector, job_row, name_of, url_id
from resweb.pages import filter_of
from resweb.posts import Form, Posts, field, jobs, place, records, timestamp_of
from resweb.servers import Answer, Server, Servers


class Extent(NamedTuple):
    """A question with its numbers, and what it is about: names and values."""

    question: str
    told: list[tuple[str, str]]


class Extents:
    """Each method is a button that asks first."""

    def __init__(self, servers: Servers, posts: Posts) -> None:
        self._servers = servers
        self._posts = posts

    def delete(self, form: Form) -> Extent:
        counts = Counter(one.server.name for one in self._posts.ticked(form))
        total = sum(counts.values())
        meant = "this failure" if total == 1 else f"the {total} selected failures"
        told = [(f"Server {name}", records(count)) for name, count in counts.items()]
        return Extent(f"Delete {meant} for good?", told)

    def retry_all(self, form: Form) -> Extent:
        return self._all(form, "Retry", "")

    def delete_all(self, form: Form) -> Extent:
        return self._all(form, "Delete", ", for good")

    def _all(self, form: Form, verb: str, end: str) -> Extent:
        chosen, name = filter_of(form.to_dict()), name_of(form.get("list", ""))
        self._posts.chosen_servers(form)

        counted = chosen.for_retry() if verb == "Retry" else chosen

        def question(inspector: Inspector) -> FailureCount:
            count = inspector.count_failures(counted, [name] if name else [])
            # Of very many that are all meant the number is better than that of the newest.
            some = chosen or count.scanned == count.total
            return count if some else FailureCount(*[count.total] * 3)

        answers = self._servers.ask(question, form.get("server", ""))
        found = [answer.value for answer in answers if not answer.error]
        total = sum(count.matching for count in found)
        least = "at least " if any(count.scanned < count.total for count in found) else ""
        every = "all " if total > 1 and not chosen else least
        meant = every + (records(total).replace(" ", " matching ") if chosen else records(total))
        # A button for all works on the servers one after the other.
        servers = (
            f"on {len(answers)} servers" if len(answers) > 1 else f"on {answers[0].server.name}"
        )
        return Extent(
            f"{verb} {meant} {servers}{end}?",
            [
                *_narrowed(form),
                *((f"Server {a.server.name}", _counted(a, bool(chosen))) for a in answers),
            ],
        )

    def remove_queue(self, form: Form) -> Extent:
        server, name = self._posts.server(form), name_of(field(form, "queue"))
        waiting = jobs(server.inspector.queue_size(name))
        return Extent(f"Remove the queue {printable(name)} and {waiting} on it?", _of(server))

    def move_queue(self, form: Form) -> Extent:
        server = self._posts.server(form)
        source, target = name_of(field(form, "queue")), name_of(field(form, "target"))
        inspector = server.inspector
        waiting = jobs(inspector.queue_size(source))
        known = url_id(target) in {row.handle for row in inspector.queues()}
        there = f"has {jobs(inspector.queue_size(target))} now"
        told = (
            f"Queue {printable(target)}",
            there if known else "is new: there is none of this name",
        )
        question = f"Move {waiting} from {printable(source)} to {printable(target)}?"
        return Extent(question, [*_of(server), told])

    def delete_job(self, form: Form) -> Extent:
        server, name = self._posts.server(form), name_of(field(form, "queue"))
        where = place(form, "job")
        found = server.inspector.find_job(name, where.mark, where.position)
        told = [*_of(server), ("Queue", printable(name)), _job(found.raw if found else None)]
        return Extent("Delete 1 job for good?", told)

    def delayed_cancel(self, form: Form) -> Extent:
        server, timestamp, where = self._posts.server(form), timestamp_of(form), place(form, "job")
        found = server.inspector.find_delayed(timestamp, where.mark, where.position)
        told = [*_of(server), ("Timestamp", str(timestamp)), _job(found.raw if found else None)]
        return Extent("Cancel 1 delayed job for good?", told)

    def pause(self, form: Form) -> Extent:
        server = self._posts.server(form)
        count = server.inspector.worker_count()
        return Extent(f"Pause all workers of {server.name}: {count} now?", _of(server))

    def khan(self, form: Form) -> Extent:
        server, khan = self._posts.server(form), name_of(field(form, "khan"))
        command = field(form, "command")
        pools = {row.handle: row.pool for row in server.inspector.khans()}
        told = [*_of(server), ("Minions", pools.get(url_id(khan), "it is gone"))]
        return Extent(f"Send {command[:30]} to the manager {printable(khan)}?", told)


def _of(server: Server) -> list[tuple[str, str]]:
    return [("Server", server.name)]


def _job(raw: bytes | None) -> tuple[str, str]:
    if raw is None:
        return "Job", "is gone already"
    row = job_row(raw)
    return "Job", f"{row.klass} {row.args}"


def _narrowed(form: Form) -> list[tuple[str, str]]:
    """The list and the filter that a form names."""
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

"""A POST = one call on `failure` or `ResQ` of the server that the form names, and a word of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

from werkzeug.datastructures import MultiDict

from pyres.failure.records import printable
from pyres.inspector import name_of
from resweb import actions
from resweb.actions import FAULTS, BadForm, Chosen, Place, Tasks
from resweb.filters import path
from resweb.pages import filter_of
from resweb.servers import Server, Servers

Form = MultiDict[str, str]


class Outcome(NamedTuple):
    """What happened, and the page to show it on; for the log also where, to which jobs, and to how
    many (None: it goes on behind the page).
    """

    said: str
    page: str
    servers: list[str]
    done: int | None = 1
    jobs: tuple[str, ...] = ()


class Ticked(NamedTuple):
    """One failure that a form names."""

    server: Server
    place: Place


class Posts:
    """Each method is a button."""

    def __init__(self, servers: Servers, tasks: Tasks) -> None:
        self.servers = servers
        self.tasks = tasks

    def server(self, form: Form) -> Server:
        """The server of the row; with one server only it need not be named."""
        name = form.get("server", "")
        found = self.servers.chosen(name)
        if len(found) == 1:
            return found[0]
        raise BadForm(f"no server is named {name[:100]!r}" if name else "the form names no server")

    def retry(self, form: Form) -> Outcome:
        return self._each(form, "Retried", actions.retry_one)

    def delete(self, form: Form) -> Outcome:
        return self._each(form, "Deleted", actions.delete_one)

    def _each(self, form: Form, verb: str, act: Callable[[Server, Place], str | None]) -> Outcome:
        ticked = self.ticked(form)
        servers = list(dict.fromkeys(one.server.name for one in ticked))
        done: list[str] = []
        trouble = ""
        try:
            for one in ticked:
                if name := act(*one):
                    done.append(name)
        except FAULTS as error:
            if not done:
                raise
            trouble = f" It ended early: {error}"
        said = f"{verb} {records(len(done))}.{trouble}"
        return Outcome(said, "/failed/", servers, len(done), tuple(done))

    def ticked(self, form: Form) -> list[Ticked]:
        """The record of a card's own button, or those ticked; of each list the last one first, so
        that none moves the others.
        """
        if "failed_job" in form:
            meant = place(form, "failed_job")._replace(failure_list=_list_of(form))
            return [Ticked(self.server(form), meant)]
        values = [value.rpartition(" ") for value in dict.fromkeys(form.getlist("record"))]
        if not values:
            raise BadForm("nothing was selected")
        found = [
            Ticked(self.server(MultiDict({"server": server})), _ticked_place(token))
            for server, _, token in values
        ]
        return sorted(found, key=lambda one: -(one.place.position or 0))

    def chosen_servers(self, form: Form) -> list[Server]:
        """The server that a form names, or all."""
        name = form.get("server", "")
        found = self.servers.chosen(name)
        if not found:
            raise BadForm(f"no server is named {name[:100]!r}")
        return found

    def retry_all(self, form: Form) -> Outcome:
        return self._all("retry", form)

    def delete_all(self, form: Form) -> Outcome:
        return self._all("delete", form)

    def _all(self, kind: str, form: Form) -> Outcome:
        servers = self.chosen_servers(form)
        matching = filter_of(form.to_dict())
        matching = matching.for_retry() if kind == "retry" else matching
        chosen = Chosen(matching, name_of(form.get("list", "")))
        task = self.tasks.start(kind, servers, chosen)
        verb = "Retried" if kind == "retry" else "Deleted"
        names = [server.name for server in servers]
        if task.running:
            said = f"Working on {task.total} failures; see how far it is."
            return Outcome(said, "/failed/", names, None)
        trouble = f" It ended early: {task.error}" if task.error else ""
        where = path(form["list"]) + "/" if form.get("list") else ""
        said = f"{verb} {records(task.done)}.{trouble}"
        return Outcome(said, f"/failed/{where}", names, task.done)

    def remove_queue(self, form: Form) -> Outcome:
        name, server = name_of(field(form, "queue")), self.server(form)
        removed = server.resq.remove_queue(name)
        said = f"Removed the queue {printable(name)} of {server.name}, and {jobs(removed)}."
        return Outcome(said, "/queues/", [server.name], removed)

    def delete_job(self, form: Form) -> Outcome:
        given, server = field(form, "queue"), self.server(form)
        name = name_of(given)
        done = actions.delete_job(server, name, place(form, "job"))
        said = f"Deleted a job of {printable(name)}." if done else "That job is gone already."
        return _of_one(said, f"/queues/{path(given)}/", server, done)

    def move_queue(self, form: Form) -> Outcome:
        source, target = name_of(field(form, "queue")), name_of(field(form, "target"))
        server = self.server(form)
        moved = server.resq.move_queue(source, target)
        said = f"Moved {jobs(moved)} from {printable(source)} to {printable(target)}."
        return Outcome(said, "/queues/", [server.name], moved)

    def delayed_now(self, form: Form) -> Outcome:
        return self._delayed(form, "Enqueued", actions.promote_one)

    def delayed_cancel(self, form: Form) -> Outcome:
        return self._delayed(form, "Cancelled", actions.cancel_one)

    def _delayed(
        self, form: Form, verb: str, act: Callable[[Server, int, Place], str | None]
    ) -> Outcome:
        server = self.server(form)
        done = act(server, timestamp_of(form), place(form, "job"))
        said = f"{verb} 1 job." if done else "That job is gone already."
        return _of_one(said, "/delayed/", server, done)

    def schedule_run(self, form: Form) -> Outcome:
        server, name = self.server(form), name_of(field(form, "name"))
        queued = server.resq.run_schedule(name)
        said = f"Enqueued {printable(name)} on {server.name}."
        if not queued:
            said = f"Dropped {printable(name)}: a job like it was enqueued, and one is enough."
        return Outcome(said, "/schedule/", [server.name], int(queued))

    def pause(self, form: Form) -> Outcome:
        return self._switch(form, "Paused", lambda server: server.resq.pause_all())

    def resume(self, form: Form) -> Outcome:
        return self._switch(form, "Resumed", lambda server: server.resq.resume_all())

    def _switch(self, form: Form, verb: str, act: Callable[[Server], Any]) -> Outcome:
        server = self.server(form)
        workers = server.inspector.worker_count()
        act(server)
        return Outcome(f"{verb} all workers of {server.name}.", "/workers/", [server.name], workers)

    def khan(self, form: Form) -> Outcome:
        server, khan = self.server(form), name_of(field(form, "khan"))
        word = field(form, "command")
        if word not in ("ADD", "REMOVE", "SHUTDOWN"):
            raise BadForm(f"{word[:30]!r} is no command; a khan knows ADD, REMOVE and SHUTDOWN")
        told = server.resq.command_khan(khan, word)
        said = f"Told {printable(khan)}: {word}." if told else f"{printable(khan)} is gone."
        return Outcome(said, "/workers/", [server.name], int(told))


#: Path of each button, and whether it asks first: what destroys, or changes many at once.
BUTTONS = {
    "/failed/retry/": ("retry", False),
    "/failed/delete/": ("delete", True),
    "/failed/retry_all": ("retry_all", True),
    "/failed/delete_all": ("delete_all", True),
    "/queues/remove": ("remove_queue", True),
    "/queues/delete_job": ("delete_job", True),
    "/queues/move": ("move_queue", True),
    "/delayed/now": ("delayed_now", False),
    "/delayed/cancel": ("delayed_cancel", True),
    "/schedule/run": ("schedule_run", False),
    "/workers/pause": ("pause", True),
    "/workers/resume": ("resume", False),
    "/khans/command": ("khan", True),
}


def field(form: Form, name: str) -> str:
    """A field that a form must have."""
    value = form.get(name, "")
    if not value:
        raise BadForm(f"the form has no {name}")
    return value


def timestamp_of(form: Form) -> int:
    """The timestamp that a form names."""
    stamp = field(form, "timestamp")
    if not stamp.removeprefix("-").isdigit() or len(stamp) > 15:
        raise BadForm(f"{stamp[:30]!r} is no timestamp")
    return int(stamp)


def _list_of(form: Form) -> str:
    return name_of(form.get("list", ""))


def place(form: Form, field: str) -> Place:
    """The row that a form names; an older form says only its bytes."""
    if field not in form:
        raise BadForm(f"the form has no {field}")
    return Place(form[field], _position(form.get("index", "")))


def _ticked_place(token: str) -> Place:
    """The row of a tick: `<bytes>@<index>:<list>`, or only its bytes."""
    mark, _, where = token.partition("@")
    index, _, name = where.partition(":")
    return Place(mark, _position(index), name_of(unquote(name)))


def _position(index: str) -> int | None:
    known = index.isascii() and index.isdigit() and len(index) <= 12
    return int(index) if known else None


def _of_one(said: str, page: str, server: Server, done: str | None) -> Outcome:
    jobs = (done,) if done else ()
    return Outcome(said, page, [server.name], len(jobs), jobs)


def jobs(count: int) -> str:
    """So many jobs, in words."""
    return "1 job" if count == 1 else f"{count} jobs"


def records(count: int) -> str:
    """So many failures, in words."""
    return "1 failure" if count == 1 else f"{count} failures"

"""The handlers of buttons: one action on the form's server, and a message about its outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import unquote

from werkzeug.datastructures import MultiDict

from pyres.failure.records import printable
from pyres.inspector import name_of
from resweb import actions
from resweb.actions import REPORTED_ERRORS, BadForm, Place, Selection, Tasks
from resweb.filters import path
from resweb.pages import filter_of
from resweb.servers import Server, Servers

Form = MultiDict[str, str]


class Outcome(NamedTuple):
    """A message, and the page to show it on; for the log also the servers, the number of jobs or
    failures (None: it continues in the background), and their names.
    """

    message: str
    page: str
    servers: list[str]
    done: int | None = 1
    jobs: tuple[str, ...] = ()


class SelectedFailure(NamedTuple):
    """One failure that is selected in a form."""

    server: Server
    place: Place


class Posts:
    """Each method is the handler of a button."""

    def __init__(self, servers: Servers, tasks: Tasks) -> None:
        self.servers = servers
        self.tasks = tasks

    def server(self, form: Form) -> Server:
        """The server of the row; with only one server the form need not have it."""
        name = form.get("server", "")
        servers = self.servers.chosen(name)
        if len(servers) == 1:
            return servers[0]
        raise BadForm(f"no server is named {name[:100]!r}" if name else "the form has no server")

    def retry(self, form: Form) -> Outcome:
        return self._act_on_selected(form, "Retried", actions.retry_one)

    def delete(self, form: Form) -> Outcome:
        return self._act_on_selected(form, "Deleted", actions.delete_one)

    def _act_on_selected(
        self, form: Form, verb: str, act: Callable[[Server, Place], str | None]
    ) -> Outcome:
        selected = self.selected_failures(form)
        servers = list(dict.fromkeys(failure.server.name for failure in selected))
        done: list[str] = []
        warning = ""
        try:
            for failure in selected:
                if name := act(*failure):
                    done.append(name)
        except REPORTED_ERRORS as error:
            if not done:
                raise
            warning = f" Stopped early: {error}"
        message = f"{verb} {records(len(done))}.{warning}"
        return Outcome(message, "/failed/", servers, len(done), tuple(done))

    def selected_failures(self, form: Form) -> list[SelectedFailure]:
        """The failure of a card's own button, or those ticked: in each list the last one first,
        because removing a record moves those after it.
        """
        if "failed_job" in form:
            its_place = place(form, "failed_job")._replace(failure_list=_list_of(form))
            return [SelectedFailure(self.server(form), its_place)]
        values = [value.rpartition(" ") for value in dict.fromkeys(form.getlist("record"))]
        if not values:
            raise BadForm("nothing was selected")
        selected = [
            SelectedFailure(self.server(MultiDict({"server": server})), _selected_place(token))
            for server, _, token in values
        ]
        return sorted(selected, key=lambda failure: -(failure.place.position or 0))

    def chosen_servers(self, form: Form) -> list[Server]:
        """The form's server, or all."""
        name = form.get("server", "")
        servers = self.servers.chosen(name)
        if not servers:
            raise BadForm(f"no server is named {name[:100]!r}")
        return servers

    def retry_all(self, form: Form) -> Outcome:
        return self._all("retry", form)

    def delete_all(self, form: Form) -> Outcome:
        return self._all("delete", form)

    def _all(self, kind: str, form: Form) -> Outcome:
        servers = self.chosen_servers(form)
        matching = filter_of(form.to_dict())
        matching = matching.for_retry() if kind == "retry" else matching
        selection = Selection(matching, name_of(form.get("list", "")))
        task = self.tasks.start(kind, servers, selection)
        verb = "Retried" if kind == "retry" else "Deleted"
        names = [server.name for server in servers]
        if task.running:
            participle = "Retrying" if kind == "retry" else "Deleting"
            message = f"{participle} {task.total} failures in the background."
            return Outcome(message, "/failed/", names, None)
        warning = f" Stopped early: {task.error}" if task.error else ""
        where = path(form["list"]) + "/" if form.get("list") else ""
        message = f"{verb} {records(task.done)}.{warning}"
        return Outcome(message, f"/failed/{where}", names, task.done)

    def remove_queue(self, form: Form) -> Outcome:
        name, server = name_of(field(form, "queue")), self.server(form)
        removed = server.resq.remove_queue(name)
        message = f"Removed the queue {printable(name)} from {server.name}, with {jobs(removed)}."
        return Outcome(message, "/queues/", [server.name], removed)

    def delete_job(self, form: Form) -> Outcome:
        queue, server = field(form, "queue"), self.server(form)
        name = name_of(queue)
        done = actions.delete_job(server, name, place(form, "job"))
        message = f"Deleted a job of {printable(name)}." if done else "That job is no longer there."
        return _of_one(message, f"/queues/{path(queue)}/", server, done)

    def move_queue(self, form: Form) -> Outcome:
        source, target = name_of(field(form, "queue")), name_of(field(form, "target"))
        server = self.server(form)
        moved = server.resq.move_queue(source, target)
        message = f"Moved {jobs(moved)} from {printable(source)} to {printable(target)}."
        return Outcome(message, "/queues/", [server.name], moved)

    def delayed_now(self, form: Form) -> Outcome:
        return self._delayed(form, "Enqueued", actions.promote_one)

    def delayed_cancel(self, form: Form) -> Outcome:
        return self._delayed(form, "Cancelled", actions.cancel_one)

    def _delayed(
        self, form: Form, verb: str, act: Callable[[Server, int, Place], str | None]
    ) -> Outcome:
        server = self.server(form)
        done = act(server, timestamp_of(form), place(form, "job"))
        message = f"{verb} 1 job." if done else "That job is no longer there."
        return _of_one(message, "/delayed/", server, done)

    def schedule_run(self, form: Form) -> Outcome:
        server, name = self.server(form), name_of(field(form, "name"))
        enqueued = server.resq.run_schedule(name)
        message = f"Enqueued {printable(name)} on {server.name}."
        if not enqueued:
            message = f"Skipped duplicate of unique job {printable(name)}."
        return Outcome(message, "/schedule/", [server.name], int(enqueued))

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
        command = field(form, "command")
        if command not in ("ADD", "REMOVE", "SHUTDOWN"):
            raise BadForm(f"invalid command {command[:30]!r}: expected ADD, REMOVE or SHUTDOWN")
        sent = server.resq.command_khan(khan, command)
        message = f"Sent {command} to the manager {printable(khan)}."
        if not sent:
            message = f"The manager {printable(khan)} is no longer registered."
        return Outcome(message, "/workers/", [server.name], int(sent))


#: Path of each button, its method, and whether it asks for confirmation: destructive ones do, and
#: those that change many at once.
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
    """A required field of a form."""
    value = form.get(name, "")
    if not value:
        raise BadForm(f"the form has no {name}")
    return value


def timestamp_of(form: Form) -> int:
    """The timestamp in a form."""
    stamp = field(form, "timestamp")
    if not stamp.removeprefix("-").isdigit() or len(stamp) > 15:
        raise BadForm(f"invalid timestamp {stamp[:30]!r}: expected epoch seconds")
    return int(stamp)


def _list_of(form: Form) -> str:
    return name_of(form.get("list", ""))


def place(form: Form, field: str) -> Place:
    """The row of a form; an older form has no position."""
    if field not in form:
        raise BadForm(f"the form has no {field}")
    return Place(form[field], _position(form.get("index", "")))


def _selected_place(token: str) -> Place:
    """The row of a checkbox: `<payload token>@<index>:<list>`, or only the payload token."""
    token, _, where = token.partition("@")
    index, _, name = where.partition(":")
    return Place(token, _position(index), name_of(unquote(name)))


def _position(index: str) -> int | None:
    is_number = index.isascii() and index.isdigit() and len(index) <= 12
    return int(index) if is_number else None


def _of_one(message: str, page: str, server: Server, done: str | None) -> Outcome:
    jobs = (done,) if done else ()
    return Outcome(message, page, [server.name], len(jobs), jobs)


def jobs(count: int) -> str:
    """A number of jobs, in words."""
    return "1 job" if count == 1 else f"{count} jobs"


def records(count: int) -> str:
    """A number of failures, in words."""
    return "1 failure" if count == 1 else f"{count} failures"

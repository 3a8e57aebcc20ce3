"""A POST = one call on `failure` or `ResQ` of the server that the form names, and a word of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from werkzeug.datastructures import MultiDict

from pyres.failure.records import plain
from pyres.inspector import name_of
from resweb.actions import BadForm, Chosen, Tasks, delete_one, retry_one
from resweb.filters import path
from resweb.pages import filter_of
from resweb.servers import Server, Servers

Form = MultiDict[str, str]


class Outcome(NamedTuple):
    """What happened, and the page to show it on."""

    said: str
    page: str


class Posts:
    """Each method is a button."""

    def __init__(self, servers: Servers, tasks: Tasks) -> None:
        self.servers = servers
        self.tasks = tasks

    def _server(self, form: Form) -> Server:
        """The server of the row; with one server only it need not be named."""
        name = form.get("server", "")
        found = self.servers.chosen(name)
        if len(found) == 1:
            return found[0]
        raise BadForm(f"no server is named {name[:100]!r}" if name else "the form names no server")

    def retry(self, form: Form) -> Outcome:
        done = self._each(form, retry_one)
        return Outcome(f"Retried {_records(done)}.", "/failed/")

    def delete(self, form: Form) -> Outcome:
        done = self._each(form, delete_one)
        return Outcome(f"Deleted {_records(done)}.", "/failed/")

    def _each(self, form: Form, act: Callable[[Server, str], int]) -> int:
        """One record, as 1.5 had it, or those ticked: each says its server before a blank."""
        if "failed_job" in form:
            return act(self._server(form), form["failed_job"])
        chosen = [value.rpartition(" ") for value in form.getlist("record")]
        if not chosen:
            raise BadForm("nothing was selected")
        return sum(act(self._server(MultiDict({"server": s})), record) for s, _, record in chosen)

    def retry_all(self, form: Form) -> Outcome:
        return self._all("retry", form)

    def delete_all(self, form: Form) -> Outcome:
        return self._all("delete", form)

    def _all(self, kind: str, form: Form) -> Outcome:
        servers = self.servers.chosen(form.get("server", ""))
        if not servers:
            raise BadForm(f"no server is named {form.get('server', '')[:100]!r}")
        chosen = Chosen(filter_of(form.to_dict()), name_of(form.get("list", "")))
        task = self.tasks.start(kind, servers, chosen)
        verb = "Retried" if kind == "retry" else "Deleted"
        if task.running:
            return Outcome(f"Working on {task.total} failures; see how far it is.", "/failed/")
        trouble = f" It ended early: {task.error}" if task.error else ""
        where = path(form["list"]) + "/" if form.get("list") else ""
        return Outcome(f"{verb} {_records(task.done)}.{trouble}", f"/failed/{where}")

    def remove_queue(self, form: Form) -> Outcome:
        name, server = name_of(_field(form, "queue")), self._server(form)
        server.resq.remove_queue(name)
        return Outcome(f"Removed the queue {plain(name)} of {server.name}.", "/queues/")

    def delete_job(self, form: Form) -> Outcome:
        given, server = _field(form, "queue"), self._server(form)
        name = name_of(given)
        raw = server.inspector.find_job(name, _field(form, "job"))
        done = 0 if raw is None else server.resq.delete_job(name, raw)
        said = f"Deleted a job of {plain(name)}." if done else "That job is gone already."
        return Outcome(said, f"/queues/{path(given)}/")

    def move_queue(self, form: Form) -> Outcome:
        source, target = name_of(_field(form, "queue")), name_of(_field(form, "target"))
        moved = self._server(form).resq.move_queue(source, target)
        return Outcome(f"Moved {moved} jobs from {plain(source)} to {plain(target)}.", "/queues/")

    def delayed_now(self, form: Form) -> Outcome:
        return self._delayed(form, "Enqueued", lambda server: server.resq.promote_job)

    def delayed_cancel(self, form: Form) -> Outcome:
        return self._delayed(form, "Cancelled", lambda server: server.resq.cancel_delayed)

    def _delayed(self, form: Form, verb: str, act: Callable[[Server], Any]) -> Outcome:
        server, stamp = self._server(form), _field(form, "timestamp")
        if not stamp.removeprefix("-").isdigit() or len(stamp) > 15:
            raise BadForm(f"{stamp[:30]!r} is no timestamp")
        raw = server.inspector.find_delayed(int(stamp), _field(form, "job"))
        done = 0 if raw is None else act(server)(int(stamp), raw)
        return Outcome(f"{verb} {done} jobs." if done else "Nothing was there to do.", "/delayed/")

    def schedule_run(self, form: Form) -> Outcome:
        server, name = self._server(form), name_of(_field(form, "name"))
        queued = server.resq.run_schedule(name)
        said = f"Enqueued {plain(name)} on {server.name}."
        if not queued:
            said = f"Dropped {plain(name)}: a job like it was enqueued, and one is enough."
        return Outcome(said, "/schedule/")

    def pause(self, form: Form) -> Outcome:
        return self._switch(form, "Paused", lambda server: server.resq.pause_all())

    def resume(self, form: Form) -> Outcome:
        return self._switch(form, "Resumed", lambda server: server.resq.resume_all())

    def _switch(self, form: Form, verb: str, act: Callable[[Server], Any]) -> Outcome:
        server = self._server(form)
        act(server)
        return Outcome(f"{verb} all workers of {server.name}.", "/workers/")

    def khan(self, form: Form) -> Outcome:
        server, khan = self._server(form), name_of(_field(form, "khan"))
        word = _field(form, "command")
        if word not in ("ADD", "REMOVE", "SHUTDOWN"):
            raise BadForm(f"{word[:30]!r} is no command; a khan knows ADD, REMOVE and SHUTDOWN")
        told = server.resq.command_khan(khan, word)
        said = f"Told {plain(khan)}: {word}." if told else f"{plain(khan)} is gone."
        return Outcome(said, "/workers/")


#: Path of each button, and the question that is asked before it destroys.
BUTTONS = {
    "/failed/retry/": ("retry", ""),
    "/failed/delete/": ("delete", "Delete the selected failures for good?"),
    "/failed/retry_all": ("retry_all", "Retry every failure that matches?"),
    "/failed/delete_all": ("delete_all", "Delete every failure that matches, for good?"),
    "/queues/remove": ("remove_queue", "Remove the queue and every job that waits on it?"),
    "/queues/delete_job": ("delete_job", "Delete this job for good?"),
    "/queues/move": ("move_queue", "Move every job of the queue to the other one?"),
    "/delayed/now": ("delayed_now", ""),
    "/delayed/cancel": ("delayed_cancel", "Cancel this delayed job for good?"),
    "/schedule/run": ("schedule_run", ""),
    "/workers/pause": ("pause", "Pause all workers of this server?"),
    "/workers/resume": ("resume", ""),
    "/khans/command": ("khan", "Send this command to the khan?"),
}


def _field(form: Form, name: str) -> str:
    value = form.get(name, "")
    if not value:
        raise BadForm(f"the form has no {name}")
    return value


def _records(count: int) -> str:
    return "1 failure" if count == 1 else f"{count} failures"

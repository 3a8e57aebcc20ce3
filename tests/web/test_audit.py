"""The audit log: one line for each press of a button."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import threading
from datetime import datetime

import pytest

import resweb.auth
from resweb import actions
from resweb.app import create_app
from resweb.auth import hash_password
from resweb.posts import BUTTONS
from tests.servers import free_port, until
from tests.web.test_command import COMMAND, ENVIRONMENT
from tests.web.test_pages import RECORD, fail
from tests.web.visitor import Visitor


@pytest.fixture
def lines(caplog):
    """The lines of the audit log, decoded."""
    caplog.set_level(logging.INFO, "resweb")

    def audit_lines() -> list[dict]:
        messages = [r.getMessage() for r in caplog.records if r.name == "resweb.audit"]
        return [json.loads(message.removeprefix("Audit: ")) for message in messages]

    return audit_lines


@pytest.fixture
def filled(second):
    """Data for each button on the second server."""
    for number in range(3):
        second.push("q", {"class": "A", "args": [number]})
        fail(second.redis, error=str(number))
    due = datetime.fromtimestamp(2_000_000_000)
    second.delayed_push(due, {"class": "D", "args": [], "queue": "later"})
    second.set_schedule("night", {"cron": "0 3 * * *", "class": "N", "queue": "low"})
    second.redis.sadd("resque:khans", "h:1:5")
    second.store.workers.register("h:1:q", "1795435269")
    second.store.workers.register("h:2:q", "1795435269")


RECORDS = [json.dumps({**RECORD, "error": str(number)}).encode() for number in range(3)]
JOB = base64.b64encode(b'{"class":"A","args":[1]}').decode()


def payload_token(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


FIRST = {"server": "two", "failed_job": payload_token(RECORDS[0])}
DELAYED = {"server": "two", "timestamp": "2000000000"}


@pytest.mark.parametrize(
    ("path", "form", "expected_fields"),
    [
        ("/failed/retry/", FIRST, {"count": 1, "servers": ["two"]}),
        ("/failed/delete/", {"record": f"two {payload_token(RECORDS[1])}"}, {"count": 1}),
        ("/failed/retry_all", {"text": '"error": "2"'}, {"count": 1, "servers": ["one", "two"]}),
        ("/failed/delete_all", {"list": "failed", "server": "two"}, {"count": 3, "list": "failed"}),
        ("/queues/remove", {"queue": "q"}, {"count": 3, "queue": "q"}),
        ("/queues/move", {"queue": "q", "target": "r"}, {"count": 3, "queue": "q", "target": "r"}),
        ("/queues/delete_job", {"queue": "q"}, {"count": 1, "queue": "q", "jobs": ["A [1]"]}),
        ("/delayed/now", DELAYED, {"count": 1, "timestamp": "2000000000", "jobs": ["D []"]}),
        ("/delayed/cancel", DELAYED, {"count": 1, "jobs": ["D []"]}),
        ("/schedule/run", {"name": "night"}, {"count": 1, "name": "night"}),
        ("/workers/pause", {}, {"count": 2}),
        ("/workers/resume", {}, {"count": 2}),
        ("/khans/command", {"khan": "h:1:5", "command": "ADD"}, {"count": 1, "khan": "h:1:5"}),
    ],
)
def test_each_button_writes_one_line(visitor, second, filled, lines, path, form, expected_fields):
    raw = second.store.queues.peek("q", 1, 1)[0]
    if path == "/queues/delete_job":
        form = {**form, "job": payload_token(raw)}
    if path.startswith("/delayed/"):
        form = {**form, "job": payload_token(second.redis.lindex("resque:delayed:2000000000", 0))}
    if "all" not in path and "record" not in form:
        form = {"server": "two", **form}

    visitor.press(path, confirmed=False, **form) if BUTTONS[path][1] else None
    asked = lines()
    status, _, _ = visitor.press(path, **form)

    (line,) = lines()
    assert (status, asked) == (303, [])
    expected = {
        "user": "",
        "address": "127.0.0.1",
        "button": path,
        "servers": ["two"],
        **expected_fields,
    }
    assert {name: line[name] for name in expected} == expected
    assert line["outcome"]


def test_every_button_is_in_the_test_above():
    assert {case[0] for case in _cases()} == set(BUTTONS)


def _cases():
    return test_each_button_writes_one_line.pytestmark[0].args[1]


def test_the_line_names_the_user_who_gave_the_password(serve, resq, lines, monkeypatch):
    monkeypatch.setattr(resweb.auth, "N", 16)
    site = serve(create_app([resq.dsn], auth=f"ops:{hash_password('secret')}", sample=False))
    right = base64.b64encode(b"ops:secret").decode()

    Visitor(site, {"Authorization": f"Basic {right}"}).press("/workers/pause")

    (line,) = lines()
    assert line["user"] == "ops"
    assert "secret" not in json.dumps(line)


@pytest.mark.parametrize(
    ("path", "form", "reason"),
    [
        ("/queues/remove", {"server": "three", "queue": "q"}, "no server is named 'three'"),
        ("/failed/delete/", {}, "nothing was selected"),
        (
            "/delayed/cancel",
            {"server": "two", "timestamp": "x", "job": ""},
            "invalid timestamp 'x'",
        ),
    ],
)
def test_a_failing_button_writes_a_line_with_the_reason(visitor, lines, path, form, reason):
    assert visitor.press(path, **form)[0] == 400

    (line,) = lines()
    assert line["count"] == 0
    assert reason in line["outcome"]


def test_a_background_task_is_logged_at_its_start_and_at_its_end(
    visitor, second, lines, monkeypatch, caplog
):
    monkeypatch.setattr(actions, "MAX_FOREGROUND", 5)
    answered, run = threading.Event(), actions.Task.run

    def run_when_answered(task):
        # Otherwise the task may finish before the response, and the line has a count.
        assert answered.wait(60)
        run(task)

    monkeypatch.setattr(actions.Task, "run", run_when_answered)
    for number in range(30):
        fail(second.redis, error=str(number))

    visitor.press("/failed/retry_all")
    answered.set()
    assert until(lambda: not visitor.json("/api/tasks")["tasks"][0]["running"])

    (line,) = lines()
    assert (line["button"], line["count"]) == ("/failed/retry_all", None)
    assert "30 failures" in line["outcome"]
    assert until(lambda: "30 failures done, 0 left" in caplog.text)


def test_a_line_is_one_line_whatever_a_name_contains(visitor, second, lines, caplog):
    name = 'a\nAudit: {"user": "root"}\r\x1b[31m' + "x" * 5000

    visitor.press("/queues/remove", server="two", queue=name)

    (line,) = lines()
    (message,) = [r.getMessage() for r in caplog.records if r.name == "resweb.audit"]
    assert message.isprintable()
    assert line["queue"].startswith('a\nAudit: {"user"')
    assert len(message) < 2000


def test_the_command_writes_the_line_to_its_log(tmp_path, dsn, redis):
    port, log = free_port(), tmp_path / "log"
    redis.rpush("resque:queue:q", "{}")
    command = [*COMMAND, "--port", str(port), "--dsn", f"main={dsn}", "-f", str(log)]
    with subprocess.Popen(command, env=ENVIRONMENT) as process:
        try:
            until(lambda: log.exists() and "Listening" in log.read_text(), 60)
            Visitor(f"http://127.0.0.1:{port}").press("/queues/remove", queue="q")
        finally:
            process.terminate()

    (line,) = [line for line in log.read_text().splitlines() if "Audit: " in line]
    assert '"button": "/queues/remove", "servers": ["main"], "queue": "q", "count": 1' in line

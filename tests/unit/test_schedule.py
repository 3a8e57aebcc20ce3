"""Entries from files, from code and from Redis; a broken one is named and the others stay."""

from __future__ import annotations

import importlib
import json

import pytest

from pyres import decorators, schedule
from pyres.exceptions import BadOptionError, BadScheduleError, UndecodableError
from pyres.json_spans import members
from pyres.promotion import promoted
from pyres.schedule import Entry, from_file
from tests.jobs import NoopJob

YAML = """\
nightly:
  cron: "0 3 * * * Europe/Berlin"
  class: jobs.Nightly
  queue: low
  args: [1, two]
  description: cleans up
broken:
  cron: "99 * * * *"
  queue: low
clear:
  :every:
    - "30s"
    - :first_in: '120s'
  class: Clear
  args: contributors
nothing: 5
odd:
  every: 1m
  queue: low
  args: !!python/none 3
"""


def write(folder, name, text):
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def test_a_yaml_file_has_its_entries_read_and_the_invalid_ones_named(tmp_path):
    path = write(tmp_path, "schedule.yml", YAML)

    found = from_file(path)

    assert list(found.entries) == ["nightly", "clear"]
    nightly, clear = found.entries.values()
    assert (nightly.klass, nightly.queue, nightly.args) == ("jobs.Nightly", "low", [1, "two"])
    assert nightly.description == "cleans up"
    assert (clear.args, clear.timing.step, clear.timing.first_in) == (["contributors"], 30, 120)
    assert [str(fault).split(": the schedule entry")[0] for fault in found.faults] == [
        f"{path}:7",
        f"{path}:16",
        f"{path}:17",
    ]
    assert "invalid cron '99 * * * *': expected a minute from 0 to 59" in str(found.faults[0])
    assert "'nothing' is left out: invalid entry 5: expected a mapping" in str(found.faults[1])


def test_a_json_file_has_its_entries_read_and_the_lines_of_invalid_ones_named(tmp_path):
    text = '{\n "a": {"every": "1h", "queue": "q"},\n\n "b": {"every": "often", "queue": "q"}\n}\n'

    found = from_file(write(tmp_path, "schedule.json", text))

    assert list(found.entries) == ["a"]
    assert found.entries["a"].klass == "a"
    (fault,) = found.faults
    left_out = "schedule.json:4: the schedule entry 'b' is left out: invalid duration 'often'"
    assert left_out in str(fault)


def test_a_json_file_needs_no_yaml(tmp_path, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", missing)

    text = '{"a": {"every": 60, "queue": "q"}, "b": {"cron": "* * * * *", "queue": "q"}}'
    assert list(from_file(write(tmp_path, "s.json", text)).entries) == ["a", "b"]
    with pytest.raises(BadOptionError, match=r"pip install 'pyres\[cron\]'"):
        from_file(write(tmp_path, "s.yml", "a: {}"))


@pytest.mark.parametrize(
    ("config", "timing"),
    [
        ({"cron": "0 9 L * *"}, "cron 0 9 L * *"),
        ({"cron": ["@noon", {"allow_overlapping": True}]}, "cron @noon"),
        ({"cron": "0 24 * * mon#-1 +02:00"}, "cron 0 24 * * mon#-1 +02:00"),
        ({"every": "1 hour"}, "every 3600 s"),
        ({"every": ["PT1H", {"first_in": "1 minute"}]}, "every 3600 s"),
        ({"every": "0.5s"}, "every 0.5 s"),
    ],
)
def test_an_entry_of_resque_scheduler_is_read_as_ruby_wrote_it(config, timing):
    raw = json.dumps({"class": "Ruby", "queue": "q", **config}).encode()

    found = schedule.from_redis({"a": raw})

    assert found.faults == []
    assert str(found.entries["a"].timing) == timing


def test_an_entry_that_is_in_a_file_twice_is_named(tmp_path):
    found = from_file(write(tmp_path, "s.yml", "a: {every: 5s}\na: {every: 9s}\n"))

    assert found.entries["a"].timing.step == 9
    assert "s.yml:2: the entry 'a' is duplicated; using this one" in str(found.faults[0])


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("s.yml", "a: [\nb: 1", r"s\.yml:2: invalid YAML"),
        ("s.yml", "- a\n- b", "expected a mapping of names"),
        ("s.json", "[1]", "expected a JSON object of schedule entries"),
        ("s.json", "{", "expected a JSON object of schedule entries"),
    ],
)
def test_a_file_that_is_not_a_schedule_is_refused(tmp_path, name, text, complaint):
    with pytest.raises(BadScheduleError, match=complaint):
        from_file(write(tmp_path, name, text))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadOptionError, match=r"gone\.yml cannot be read: No such file"):
        from_file(tmp_path / "gone.yml")


def test_an_empty_yaml_file_has_no_entries(tmp_path):
    assert from_file(write(tmp_path, "s.yml", "# later\n")).entries == {}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (None, []),
        (False, []),
        (True, [True]),
        ([1, 2], [1, 2]),
        ({"k": "v"}, [{"k": "v"}]),
        ("one", ["one"]),
        ([], []),
    ],
)
def test_args_are_read_as_ruby_reads_them(args, expected):
    assert Entry.read("a", {"every": 5, "args": args}).args == expected


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"class": "A"}, "neither 'cron' nor 'every', only class"),
        ({"every": 5, "class": 7}, "invalid class 7: expected a name"),
        ({"every": 5, "args": [b"x"]}, "its args cannot be enqueued"),
        ({"cron": "* * * * *", "timezone": "Nowhere"}, "invalid time zone 'Nowhere': expected"),
        ("daily", "invalid entry 'daily': expected a mapping"),
    ],
)
def test_an_invalid_entry_is_an_error_that_says_why(config, complaint):
    with pytest.raises(BadScheduleError, match=f"'a' is left out: .*{complaint}"):
        Entry.read("a", config)


def test_cron_wins_over_every_and_environments_are_a_list():
    entry = Entry.read(
        "a", {"cron": "0 0 * * *", "every": "5s", "rails_env": "staging, production"}
    )

    assert str(entry.timing) == "cron 0 0 * * *"
    assert entry.is_for("production")
    assert not entry.is_for("development")
    assert not entry.is_for(None)
    assert Entry.read("a", {"every": 5}).is_for(None)


@pytest.mark.parametrize(
    ("config", "written"),
    [
        ({"cron": "0 3 * * *", "timezone": "Asia/Tokyo"}, {"cron": "0 3 * * * Asia/Tokyo"}),
        ({"cron": "0 3 * * * UTC", "timezone": "Asia/Tokyo"}, {"cron": "0 3 * * * UTC"}),
        ({"cron": ["* * * * *", {"times": 1}], "timezone": "+02:00"},
         {"cron": ["* * * * * +02:00", {"times": 1}]}),
        ({"cron": "@noon", "timezone": None}, {"cron": "@noon"}),
        ({"every": "1h", "timezone": "Asia/Tokyo"}, {"every": "1h"}),
    ],
)  # fmt: skip
def test_an_entry_is_written_with_its_zone_where_ruby_reads_it(config, written):
    rest = {"class": "A", "queue": "q"}

    found = schedule.for_ruby("a", {**config, **rest})

    assert found == {**written, **rest}
    assert Entry.read("a", found).timing.next_after(0) == Entry.read(
        "a", {**config, **rest}
    ).timing.next_after(0)


def test_an_entry_is_written_with_the_class_and_queue_of_the_python_class():
    every = {"every": "1h"}

    assert schedule.for_ruby("tests.jobs.NoopJob", every) == {
        "every": "1h", "class": "tests.jobs.NoopJob", "queue": NoopJob.queue,
    }  # fmt: skip
    assert schedule.for_ruby("Ruby", every) == {"every": "1h", "class": "Ruby"}
    assert schedule.for_ruby("a", {**every, "custom_job_class": "X"}) == {
        **every, "custom_job_class": "X",
    }  # fmt: skip


def often():
    pass


@pytest.mark.usefixtures("own_jobs")
def test_a_job_declares_in_code_when_it_recurs(monkeypatch):
    monkeypatch.setattr(schedule, "_registered", {})

    @decorators.job(queue="low", name="Nightly", cron="0 3 * * *", timezone="Europe/Berlin")
    def nightly():
        return "done"

    decorators.job(queue="low", every="10m")(often)

    @decorators.job(queue="low", cron="0 3 * *", name="broken")
    def broken():
        pass

    found = schedule.from_code()
    assert nightly() == "done"
    assert [entry.name for entry in found.entries.values()] == [
        "Nightly",
        f"{__name__}.{often.__qualname__}",
    ]
    assert found.entries["Nightly"].queue == "low"
    (fault,) = found.faults
    assert "broken" in str(fault)
    assert "invalid cron '0 3 * *': expected 5 fields" in str(fault)


def test_an_entry_from_redis_that_is_not_json_is_named():
    found = schedule.from_redis({"a": b"{", "b": b'{"every":"5s","queue":"q"}'})

    assert list(found.entries) == ["b"]
    assert "'a' is left out: b'{' is not JSON" in str(found.faults[0])


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"a":1}',
        ' { "a" : [1, {"a": "}"}] ,\n"b":"\\",\\"a\\":\\"" , "a":null } ',
        '{"é":"😀","queue":"\\u00e9"}',
    ],
)
def test_the_members_of_an_object_are_those_json_has(text):
    found = members(text)

    assert {member.key: member.value for member in found} == json.loads(text)
    for member in found:
        assert json.loads(f"{{{text[member.start : member.end]}}}") == {member.key: member.value}


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a"}', '{"a":1,}', '{"a":1} x', "{1:2}", '{"a" 1}', "5"]
)
def test_a_text_that_is_not_an_object_has_no_members(text):
    with pytest.raises(ValueError, match="."):
        members(text)


def test_promotion_removes_the_queue_and_keeps_every_other_byte():
    head, rest = '"class":"A","args":[1.0e+20,{"queue":"x"},"é\\/"]', '"retry_attempt":2'

    queue, payload = promoted(f'{{ {head}, "queue":"low" ,{rest}}}'.encode())

    assert queue == "low"
    assert payload == f"{{{head},{rest}}}".encode()


def test_promotion_sets_the_time_of_enqueuing():
    assert promoted(b'{"class":"A","args":[],"queue":"q"}', 12.5)[1] == (
        b'{"class":"A","args":[],"enqueue_timestamp":12.5}'
    )
    assert promoted(b'{"class":"A","enqueue_timestamp":1.0,"queue":"q","x":2}', 12.5)[1] == (
        b'{"class":"A","enqueue_timestamp":12.5,"x":2}'
    )


#: Arguments in JSON that cannot be encoded again.
UNSAYABLE = [
    b'["\xff"]', b'["\\ud800"]', b"[1e400,-1e999]", b'{"a":"\xe9"}', b'"\xfe"',
    b"[" * 98 + b"]" * 98,
]  # fmt: skip


@pytest.mark.parametrize("args", UNSAYABLE)
@pytest.mark.parametrize("key", [b"args", b":args"])
def test_arguments_that_cannot_be_encoded_again_are_enqueued_as_their_bytes(args, key):
    found = schedule.from_redis(
        {"a": b'{"args":[0], "every":"1h","class":"A","queue":"q","%b" : %b }' % (key, args)}
    )

    assert not found.faults
    wanted = args if args[:1] == b"[" else b"[%b]" % args
    assert found.entries["a"].raw_args == wanted


@pytest.mark.parametrize("field", ["class", "queue"])
@pytest.mark.parametrize("value", [b'"\xff"', b'"\\udfff"'])
def test_an_entry_whose_class_or_queue_is_not_unicode_is_skipped_with_its_fault(field, value):
    config = b'{"every":"1h","class":"A","queue":"q","%b":%b}' % (field.encode(), value)
    found = schedule.from_redis({"a": config})

    assert not found.entries
    assert f"invalid {field} " in found.left_out["a"]


@pytest.mark.parametrize("value", [b'"\xff"', b'"\\ud800"', b"5", b'["a"]'])
def test_a_description_of_any_kind_keeps_no_entry_out(value):
    config = b'{"every":"1h","class":"A","queue":"q","description":%b}' % value

    assert schedule.from_redis({"a": config}).entries["a"].description.encode()


def test_a_delayed_job_without_a_queue_is_moved_to_the_queue_of_its_class():
    queues = {"Report": "reports"}

    assert promoted(b'{"class":"Report","args":[]}', None, queues)[0] == "reports"
    assert promoted(b'{"class":"Report","queue":null,"args":[]}', None, queues)[0] == "reports"
    assert promoted(b'{"class":"Report","queue":"own"}', None, queues)[0] == "own"
    with pytest.raises(UndecodableError):
        promoted(b'{"class":"Other","args":[]}', None, queues)

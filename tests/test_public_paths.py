"""Every public name of pyres 1.5 and of today can be imported from its path."""

from __future__ import annotations

import importlib
import inspect
import logging
import subprocess
import sys

import pytest

import pyres
import pyres.failure.redis
from tests.servers import ROOT

#: Module -> names. A name with a dot is an attribute of a class.
NAMES = {
    "pyres": """__version__ ResQ Stat PyresError job special_log_file get_logging_handler
        setup_logging setup_pidfile my_import safe_str_to_class str_to_class
        ResQ.push ResQ.pop ResQ.size ResQ.watch_queue ResQ.queues ResQ.workers ResQ.keys ResQ.peek
        ResQ.list_range ResQ.enqueue ResQ.enqueue_from_string ResQ._enqueue ResQ.info ResQ.reserve
        ResQ.working ResQ.remove_queue ResQ.close ResQ.enqueue_at ResQ.enqueue_at_from_string
        ResQ.delayed_push ResQ.delayed_queue_peek ResQ.delayed_timestamp_peek
        ResQ.delayed_queue_schedule_size ResQ.delayed_timestamp_size ResQ.next_delayed_timestamp
        ResQ.next_item_for_timestamp ResQ.encode ResQ.decode ResQ._current_time ResQ.redis ResQ.host
        ResQ.port ResQ.dsn ResQ.enqueue_to ResQ.enqueue_many ResQ.dequeue ResQ.queue_sizes
        ResQ.pipeline ResQ.enqueue_in ResQ.remove_delayed ResQ.delayed_at Stat.get Stat.incr
        Stat.decr Stat.clear""",
    "pyres.job": """Job Job.perform Job.fail Job.retry Job.reserve Job.safe_str_to_class""",
    "pyres.worker": """JobError Worker Worker.validate_queues Worker.register_worker
        Worker.unregister_worker Worker.prune_dead_workers Worker.startup
        Worker.register_signal_handlers Worker.shutdown_all Worker.schedule_shutdown
        Worker.kill_child Worker.work Worker.fork_worker Worker.before_fork Worker.after_fork
        Worker.before_process Worker.process Worker.reserve Worker.working_on Worker.done_working
        Worker.processed Worker.get_processed Worker.failed Worker.get_failed Worker.job
        Worker.processing Worker.state Worker.worker_pids Worker.run Worker.all Worker.working
        Worker.find Worker.exists Worker.job_class Worker.started""",
    "pyres.horde": """Khan Khan.run Khan.SHUTDOWN_MINION_DELAY Khan.setup_resq Khan.register_khan
        Khan.unregister_khan Khan.setup_minions Khan.add_minion Khan._add_minion
        Khan._remove_minion Khan._shutdown_minions Khan.schedule_shutdown Khan.kill_child
        Khan.add_child Khan.process_command Khan.work Khan.register_signal_handlers
        Khan.are_minions_alive Minion Minion.start Minion.terminate Minion.join Minion.is_alive
        Minion.work Minion.process Minion.reserve Minion.register_minion
        Minion.unregister_minion""",
    "pyres.scheduler": """Scheduler Scheduler.register_signal_handlers Scheduler.schedule_shutdown
        Scheduler.next_timestamp Scheduler.next_item Scheduler.handle_delayed_items Scheduler.run
        Scheduler.__call__""",
    "pyres.failure": "backend create count all clear requeue retry delete retry_all",
    "pyres.failure.base": """BaseBackend BaseBackend._parse_traceback BaseBackend._parse_message
        BaseBackend.save BaseBackend.count BaseBackend.all BaseBackend.clear""",
    "pyres.failure.redis": "RedisBackend",
    "pyres.failure.redis_multi_queue": "RedisMultiQueueBackend",
    "pyres.failure.mail": """MailBackend MailBackend.subject MailBackend.recipients
        MailBackend.from_user MailBackend.smtp_host MailBackend.smtp_port MailBackend.smtp_tls
        MailBackend.smtp_user MailBackend.smtp_password MailBackend.create_message
        MailBackend.format_subject MailBackend.send_message""",
    "pyres.failure.multiple": "MultipleBackend MultipleBackend.classes",
    "pyres.json_parser": """dumps loads DATE_FORMAT DATE_PREFIX CustomJSONEncoder
        CustomJSONDecoder""",
    "pyres.exceptions": """NoQueueError JobError TimeoutError CrashError""",
    "pyres.scripts": "pyres_worker pyres_manager pyres_scheduler",
}

#: Other names of pyres 1.5's modules: imported from elsewhere, or their own and no longer used.
FORMER_NAMES = {
    "pyres": "Redis json logger string_types",
    "pyres.job": "RedisBackend safe_str_to_class string_types",
    "pyres.worker": """NoQueueError Stat __version__ commands json setproctitle
        string_types""",
    "pyres.horde": """NoQueueError Stat get_logging_handler json setproctitle setup_logging
        special_log_file string_types""",
    "pyres.scheduler": "ResQ __version__ setproctitle string_types",
    "pyres.scripts": "setup_logging setup_pidfile",
    "pyres.failure.redis": "ResQ",
    "pyres.json_parser": "string_types",
}

#: The parameters of pyres 1.5, in order; new ones come after them or are keyword-only.
PARAMETERS = {
    "pyres.ResQ": "server password blocking_pop",
    "pyres.Stat": "name resq",
    "pyres.ResQ.push": "queue item",
    "pyres.ResQ.pop": "queues timeout",
    "pyres.ResQ.peek": "queue start count",
    "pyres.ResQ.list_range": "key start count",
    "pyres.ResQ.enqueue": "klass args",
    "pyres.ResQ.enqueue_from_string": "klass_as_string queue args kwargs",
    "pyres.ResQ.enqueue_at": "datetime klass args kwargs",
    "pyres.ResQ.enqueue_at_from_string": "datetime klass_as_string queue args kwargs",
    "pyres.ResQ.delayed_push": "datetime item",
    "pyres.ResQ.delayed_timestamp_peek": "timestamp start count",
    "pyres.get_logging_handler": "filename procname namespace",
    "pyres.setup_logging": "procname log_level filename",
    "pyres.job.Job": "queue payload resq worker",
    "pyres.job.Job.retry": "payload_class args",
    "pyres.job.Job.reserve": "queues res worker timeout",
    "pyres.worker.Worker": "queues server password timeout blocking_pop",
    "pyres.worker.Worker.work": "interval",
    "pyres.worker.Worker.run": "queues server password interval timeout",
    "pyres.worker.Worker.find": "worker_id resq",
    "pyres.horde.Khan": """pool_size queues server password logging_level log_file
        minions_interval concat_minions_logs max_jobs blocking_pop reinit_gevent monkey_patch""",
    "pyres.horde.Minion": """queues server password log_level log_path interval concat_logs
        max_jobs""",
    "pyres.scheduler.Scheduler": "server password",
    "pyres.failure.create": "exp queue payload worker",
    "pyres.failure.all": "resq start count",
    "pyres.failure.requeue": "resq failure_object",
    "pyres.failure.retry": "resq queue payload",
    "pyres.failure.delete": "resq payload",
    "pyres.failure.base.BaseBackend": "exp queue payload worker",
    "pyres.json_parser.dumps": "values",
    "pyres.json_parser.loads": "string",
}


def paths():
    return [(module, name) for module, names in NAMES.items() for name in names.split()]


def resolve(module, name):
    target = importlib.import_module(module)
    for part in name.split("."):
        target = getattr(target, part)
    return target


@pytest.mark.parametrize(("module", "name"), paths())
def test_a_public_name_is_at_its_path(module, name):
    resolve(module, name)


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in FORMER_NAMES.items() for name in names.split()],
)
def test_a_former_name_is_at_its_path_and_warns_of_its_new_one(module, name):
    target = importlib.import_module(module)

    with pytest.warns(DeprecationWarning, match=rf"^{module}\.{name} is deprecated: use") as seen:
        getattr(target, name)

    assert seen[0].filename == __file__


def test_a_former_name_is_the_same_object_as_before():
    with pytest.warns(DeprecationWarning):
        from pyres import logger, string_types
        from pyres.horde import setproctitle, setup_logging
        from pyres.job import RedisBackend
        from pyres.worker import JobError, commands

    assert logger.name == "pyres"
    assert isinstance("text", string_types)
    assert setup_logging("khan", log_level=logging.NOTSET) is logger
    assert [*inspect.signature(setup_logging).parameters] == [
        "procname",
        "namespace",
        "log_level",
        "log_file",
    ]
    assert setproctitle.__name__ == "setproctitle"
    assert RedisBackend is pyres.failure.redis.RedisBackend
    assert JobError is pyres.exceptions.JobError
    assert commands.getstatusoutput("true") == (0, "")


@pytest.mark.parametrize("module", FORMER_NAMES)
def test_an_unknown_name_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match=f"'{module}' has no attribute 'nonsense'"):
        getattr(importlib.import_module(module), "nonsense")  # noqa: B009


@pytest.mark.parametrize("path", PARAMETERS)
def test_the_parameters_of_pyres_1_5_come_first_with_their_names(path):
    module = next(name for name in sorted(NAMES, reverse=True) if path.startswith(f"{name}."))
    target = resolve(module, path.removeprefix(f"{module}."))
    wanted = PARAMETERS[path].split()

    names = [name for name in inspect.signature(target).parameters if name != "self"]

    assert names[: len(wanted)] == wanted


def test_every_name_in_all_of_the_package_exists():
    assert all(hasattr(pyres, name) for name in pyres.__all__)


@pytest.mark.parametrize("first", ["pyres", "pyres.job", "pyres.worker", "pyres.decorators"])
def test_pyres_job_is_the_module_of_1_5_and_the_decorator_whatever_is_imported_first(first):
    program = f"""
import {first}
from pyres import job
from pyres.job import Job
import pyres.job
assert job is pyres.job and job.Job is Job
@job(queue="mail", name="Mail")
def mail(): "a job"
assert (mail.queue, mail.wire_name) == ("mail", "Mail")
"""

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)

    assert done.returncode == 0


def test_compat_still_has_its_names_and_warns_of_its_removal():
    sys.modules.pop("pyres.compat", None)

    with pytest.warns(DeprecationWarning, match=r"pyres\.compat"):
        compat = importlib.import_module("pyres.compat")

    assert isinstance("text", compat.string_types)
    assert isinstance(1, compat.integer_types)
    assert isinstance(ValueError, compat.class_types)
    assert (compat.text_type, compat.binary_type, compat.long) == (str, bytes, int)
    assert compat.commands.getstatusoutput("true") == (0, "")
    assert compat.pickle.loads(compat.pickle.dumps(1)) == 1
    assert compat.PY3


def test_extensions_are_gone():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("pyres.extensions")

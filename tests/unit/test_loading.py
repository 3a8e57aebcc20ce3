"""From a name to what it names."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from xml.dom.minidom import Document

import pytest

from pyres import job
from pyres.exceptions import ClassNotFoundError, NotAllowedError
from pyres.loading import Allowed, loaded, my_import, name_of, safe_str_to_class, str_to_class

PLAIN = {"a": 1}


class Outer:
    class Inner:
        pass


def test_a_dotted_name_is_walked_through_modules_and_classes() -> None:
    assert safe_str_to_class("xml.dom.minidom.Document") is Document
    assert safe_str_to_class(f"{__name__}.Outer.Inner") is Outer.Inner
    assert safe_str_to_class(name_of(Outer.Inner)) is Outer.Inner


def test_rubys_names_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Archive.py").write_text("class Archive: pass\nclass Old: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert safe_str_to_class("Archive").__name__ == "Archive"
    assert safe_str_to_class("Archive::Old").__name__ == "Old"
    sys.modules.pop("Archive")


@pytest.mark.parametrize(
    "name", ["", ".", "no_such_module.X", "json.NoSuch", "NoSuchModule", None, 7]
)
def test_a_name_that_leads_nowhere_is_named(name: object) -> None:
    with pytest.raises(ImportError) as refused:
        safe_str_to_class(name)  # type: ignore[arg-type]

    assert isinstance(refused.value, ClassNotFoundError)
    assert repr(name) in str(refused.value)
    assert str_to_class(name) is None  # type: ignore[arg-type]


def test_a_missing_module_is_an_error_with_the_folders_searched_and_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(ClassNotFoundError) as refused:
        safe_str_to_class("no_such_module.Job")
    text = str(refused.value)
    assert f"there is no module 'no_such_module' in {tmp_path} or " in text
    assert "or the installed packages; name its folder with --path" in text
    assert "python3" not in text, "the standard library is no place for a job"

    with pytest.raises(ClassNotFoundError, match=r"--require the module that has @job\(name='Arc"):
        safe_str_to_class("Arc")


@pytest.mark.parametrize("name", ["email.go", "email.message.go", "email.message.Message.go"])
def test_a_standard_module_imported_instead_of_the_users_is_shown(name: str) -> None:
    with pytest.raises(ClassNotFoundError, match="has no 'go'; the module is .*email.*py") as found:
        safe_str_to_class(name)
    assert "part of Python: rename your own module" in str(found.value)


def test_a_module_without_the_attribute_is_shown_with_its_file() -> None:
    with pytest.raises(ClassNotFoundError, match=f"has no 'go'; the module is {__file__}$"):
        safe_str_to_class(f"{__name__}.go")


@pytest.mark.parametrize("name", ["sys.maxsize.x", f"{__name__}.PLAIN.x", "sys.float_info.max.x"])
def test_a_name_that_passes_through_a_plain_value_is_refused_like_any_other(name: str) -> None:
    with pytest.raises(ClassNotFoundError, match="has no 'x'"):
        safe_str_to_class(name)


def test_a_job_defined_in_another_script_is_an_error_that_says_so() -> None:
    with pytest.raises(ClassNotFoundError, match="'__main__.Job' .* in the script or session that"):
        safe_str_to_class("__main__.Job")


def test_a_script_that_was_run_under_its_own_name_too_is_not_imported_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some programs put `__main__` into sys.modules themselves; then it has no import
    specification.
    """
    file = tmp_path / "own_name.py"
    file.write_text("raise RuntimeError('imported')")
    main = ModuleType("__main__")
    main.__file__ = str(file)
    main.Job = type("Job", (), {"__module__": "__main__"})  # type: ignore[attr-defined]
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setitem(sys.modules, "own_name", main)

    assert name_of(main.Job) == "own_name.Job"
    assert safe_str_to_class("own_name.Job") is main.Job
    assert loaded("own_name.Job") is main.Job


def test_an_error_while_a_module_is_imported_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_jobs.py").write_text("import no_such_thing_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(ModuleNotFoundError, match="no_such_thing_at_all"):
        safe_str_to_class("broken_jobs.Job")


def test_my_import_returns_the_inner_module() -> None:
    assert my_import("xml.dom.minidom").__name__ == "xml.dom.minidom"


@pytest.mark.usefixtures("own_jobs")
def test_a_decorated_function_has_its_name_on_the_wire() -> None:
    @job(queue="mail", name="A::Archive", timeout=3)
    def archive(message: int) -> int:
        return message + 1

    assert archive(1) == 2
    assert name_of(archive) == "A::Archive"
    assert safe_str_to_class("A::Archive") is archive
    assert (archive.queue, archive.perform, archive.timeout) == ("mail", archive, 3)


def test_only_what_is_under_an_allowed_prefix_is_loaded() -> None:
    allowed = Allowed(["xml.dom"])

    assert allowed.load("xml.dom.minidom.Document") is Document
    for name in ("os.system", "xml.domino.X", "xml.dom.minidom.io.open"):
        with pytest.raises(NotAllowedError, match="not under any of the allowed xml.dom"):
            allowed.load(name)


def test_a_name_that_is_not_allowed_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil_jobs.py").write_text("class Job: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(NotAllowedError):
        Allowed(["app.jobs"]).load("evil_jobs.Job")

    assert "evil_jobs" not in sys.modules

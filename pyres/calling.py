"""Calling a job's code: plain functions, coroutines, and functions under other decorators."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any

from pyres.exceptions import NotAJobError
from pyres.wrappers import wrapped_by


def entry_point(target: Any) -> Any:
    """The callable that performs the job of a class or decorated function: its perform(), or the
    function with the decorators above @job.
    """
    perform = target.perform
    if perform is target or inspect.isclass(target):
        return perform
    is_wrapped = any(inner is perform for inner in wrapped_by(target))
    return target if is_wrapped else perform


def is_generator(code: Any) -> bool:
    """Whether calling this only makes a generator, and runs none of its code."""
    return inspect.isgeneratorfunction(code) or inspect.isasyncgenfunction(code)


def completed(value: Any, name: str) -> Any:
    """The result of a call; a coroutine is run first. Raises NotAJobError for a generator, whose
    code has not run.
    """
    if inspect.isawaitable(value):
        return asyncio.run(_awaited(value))
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise NotAJobError(
            f"invalid job {name}: expected a function that runs when it is called, not a generator"
        )
    return value


async def _awaited(value: Awaitable[Any]) -> Any:
    return await value

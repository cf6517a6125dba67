"""Errors of libraries: each name is there once its library is imported, and none is missed while it is."""

import asyncio
import http.client
import sys
from types import ModuleType

import aiohttp
import botocore.exceptions
import botocore.parsers
import huggingface_hub.errors
import pytest

from storage.stores import errors


def test_every_error_that_is_named_exists_in_its_library() -> None:
    imported = (aiohttp, asyncio, botocore.exceptions, botocore.parsers, http.client, huggingface_hub.errors)
    assert all(module.__name__ in sys.modules for module in imported)
    assert len(errors._network()) == 10
    assert len(errors._not_passing()) == 3
    assert len(errors.failures()) == 12


def test_a_library_that_another_thread_imports_just_now_has_raised_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.exceptions", ModuleType("botocore.exceptions"))
    assert errors.aws_errors("ClientError") == ()

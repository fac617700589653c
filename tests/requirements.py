"""What a test needs from outside the package, and what becomes of the test where it is missing.

Rule: on a developer's machine a missing part skips the test with its reason; with CI=true a part that can be installed
is required, so the same absence fails. `make setup-test` installs the parts.
"""

from __future__ import annotations

import os
import shutil

import pytest


def missing(reason: str, *, installable: bool = True) -> None:
    """Skip, or fail under CI where `make setup-test` could have installed the part."""
    if installable and os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI=true: run `make setup-test`)")
    pytest.skip(reason)


def program(name: str) -> str:
    """The path of an installed program, such as mosquitto or kcat."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if path is None:
        missing(f"{name} is not installed")
    assert path is not None
    return path

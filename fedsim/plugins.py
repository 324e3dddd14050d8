"""Plug-ins that lie as files beside a scenario: found by this process, and by all that it starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["importable"]

_VARIABLE = "PYTHONPATH"


@contextmanager
def importable(*files: Path) -> Iterator[None]:
    """Let modules be imported from the working folder and from those of ``files``, in that order.

    A console script sees neither. Device and server see what this process sees, so ``mymodule:Mine`` is
    the same class everywhere. As with ``python script.py``, the folders come first.
    """
    folders = dict.fromkeys(str(folder.resolve()) for folder in (Path(), *(file.parent for file in files)))
    search_path, inherited = list(sys.path), os.environ.get(_VARIABLE)
    sys.path[:0] = folders
    os.environ[_VARIABLE] = os.pathsep.join([*folders, *([inherited] if inherited else [])])
    try:
        yield
    finally:
        sys.path[:] = search_path
        if inherited is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = inherited

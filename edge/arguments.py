"""Command-line arguments that the device and the server share, and how they report a bad one."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = [
    "Parser",
    "address",
    "count",
    "existing_file",
    "existing_folder",
    "name",
    "probability",
    "seconds",
]


_POLL_S = 0.05


class Parser(argparse.ArgumentParser):
    """Reports a bad argument in one line and exits with 2.

    ``@FILE`` stands for the arguments in a file, one on each line. With ``@@FILE`` the file may be written
    later: a program that is started before anybody knows what it has to do imports meanwhile what it needs,
    and then waits.

    Args:
        needs: modules that a run of the program imports.
        settings: of argparse.
    """

    def __init__(self, needs: Sequence[str] = (), **settings: Any) -> None:
        said = "@FILE stands for the arguments in a file, one on each line; @@FILE for one that comes later."
        settings["epilog"] = " ".join(filter(None, [settings.get("epilog"), said]))
        super().__init__(fromfile_prefix_chars="@", **settings)
        self._needs = needs

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse has it, when the files of all ``@@FILE`` are there."""
        words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args([self._awaited(word) for word in words], namespace)

    def _awaited(self, word: str) -> str:
        if not word.startswith("@@"):
            return word
        for module in self._needs:
            importlib.import_module(module)
        while not Path(word[2:]).exists():
            time.sleep(_POLL_S)
        return word[1:]

    def error(self, message: str) -> NoReturn:
        """Print ``message`` behind the program's name, without the usage."""
        self.exit(2, f"{self.prog}: {message}\n")


def count(minimum: int) -> Callable[[str], int]:
    """The type of a whole number of at least ``minimum``."""

    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if value < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {minimum}")
        return value

    return convert


def seconds(text: str) -> float:
    """The type of a time of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


def probability(text: str) -> float:
    """The type of a number of 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of 0 to 1")
    return value


def name(text: str) -> str:
    """The type of a name: not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("a name must not be empty")
    return text


def address(text: str) -> str:
    """The type of HOST:PORT; an IPv6 host stands in brackets."""
    host, separator, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if (
        not separator
        or not bare
        or (":" in bare and bare == host)
        or not port.isdecimal()
        or int(port) > 65535
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return text


def existing_file(text: str) -> Path:
    """The type of a file that is there."""
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return Path(text)


def existing_folder(text: str) -> Path:
    """The type of a folder that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return Path(text)

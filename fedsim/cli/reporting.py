"""How a command reports: what it prints, and how it ends where something goes wrong."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer
from rich.console import Console

from fedsim.errors import FedsimError

__all__ = ["console", "reported"]

_WIDTH = 140  # columns of what is written to a file or a pipe


def console(quiet: bool = False) -> Console:
    """Standard output; where it is no terminal, wide enough for every table."""
    return Console(quiet=quiet, width=None if sys.stdout.isatty() else _WIDTH, highlight=False)


@contextmanager
def reported() -> Iterator[None]:
    """End with a message and an exit code where a user can do something about what went wrong.

    SIGTERM ends the command as an interruption does: what it started is stopped, what it left removed.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except FedsimError as error:
        typer.echo(f"fedsim: {error}", err=True)
        raise typer.Exit(error.exit_code) from error
    except KeyboardInterrupt:
        typer.echo("fedsim: interrupted", err=True)
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # whoever asks again shall not cut the clearing up short
    raise SystemExit(128 + number)

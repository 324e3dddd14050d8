"""The device: takes samples, runs the head, encodes, sends, and writes down what each sample cost.

``python -m edge.device --server HOST:PORT --model RUN/models/METHOD --samples FILE --out EVENTS.jsonl``

``--as``, ``--level`` and ``--max-bytes`` belong to the ``--model`` before them, so that one bundle can be
several rows of a table: ``--model DIR --as low --level 0 --model DIR --as high --level 7``. So do
``--head-s`` and ``--encode-s``, with which this host stands for a slower device. ``--schedule`` says when
samples are due.

With ``--learn`` it classifies nothing, but tells the server of what its labelled samples look like to a model
that runs whole on the device: ``--learn --server HOST:PORT --model DIR --samples FILE``.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from edge.device_arguments import REFUSED, UNANSWERED, UNWRITTEN, check, parser
from edge.leash import Leash

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    import grpc

    from edge.arguments import Parser
    from edge.journal import Journal
    from edge.pace import Pace
    from edge.samples import Samples
    from edge.sending import Choice
    from edge.session import Plan, Tally

__all__ = ["REFUSED", "UNANSWERED", "UNWRITTEN", "main"]


def _credentials(options: argparse.Namespace) -> grpc.ChannelCredentials | None:
    import grpc  # noqa: PLC0415  --help need not wait for it

    return grpc.ssl_channel_credentials(options.tls_ca.read_bytes()) if options.tls_ca else None


def _plan(options: argparse.Namespace) -> Plan:
    from edge.schedule import Schedule  # noqa: PLC0415
    from edge.sending import Erasure  # noqa: PLC0415
    from edge.session import Plan  # noqa: PLC0415

    return Plan(
        run=options.run,
        client=options.client,
        server=options.server,
        in_flight=options.in_flight,
        deadline_s=options.deadline,
        interval_s=options.interval_ms / 1e3,
        schedule=None if options.schedule is None else Schedule.read(options.schedule),
        warmup=options.warmup,
        credentials=_credentials(options),
        erasure=Erasure(options.erase, options.erase_seed),
    )


def _chosen(options: argparse.Namespace) -> list[tuple[Path, Choice, Pace]]:
    """Each model, with what was chosen for it."""
    from edge.pace import Pace  # noqa: PLC0415
    from edge.sending import Choice  # noqa: PLC0415

    found = []
    for folder, chosen in zip(options.model, options.chosen, strict=True):
        pace = {name: chosen[name] for name in ("head_s", "encode_s") if name in chosen}
        choice = {name: value for name, value in chosen.items() if name not in pace}
        found.append((folder, Choice(**choice), Pace(**pace)))
    return found


async def _run(options: argparse.Namespace, samples: Samples, plan: Plan, journal: Journal) -> list[Tally]:
    from edge.bundle import device_spec, load_device  # noqa: PLC0415
    from edge.session import run_model  # noqa: PLC0415

    models = _chosen(options)
    names = [choice.method or device_spec(folder).name for folder, choice, _ in models]
    for twice in (one for one in names if names.count(one) > 1):
        raise ValueError(f"two models would both be called {twice} in the events: name one of them with --as")
    fallback = None if options.fallback is None else load_device(options.fallback)
    leash = None if options.leashed is None else Leash(options.leashed)
    tallies = []
    for folder, choice, pace in models:
        half = load_device(folder)  # one at a time: a small board need not hold them all
        let_go = None if leash is None else partial(asyncio.to_thread, leash.wait, choice.name(half))
        tallies.append(await run_model(half, samples, plan, journal, fallback, choice, pace, let_go))
    return tallies


def _learn(command: Parser, options: argparse.Namespace) -> int:
    from edge.bundle import load_device  # noqa: PLC0415
    from edge.learning import learn  # noqa: PLC0415
    from edge.prototypes.limits import DEFAULT_BITS  # noqa: PLC0415
    from edge.samples import Samples  # noqa: PLC0415
    from edge.stream import LostError, RefusedError  # noqa: PLC0415

    try:
        pushed = asyncio.run(
            learn(
                load_device(options.model[0]),
                Samples(options.samples, options.shard, options.limit),
                options.server,
                client=options.client,
                bits=DEFAULT_BITS if options.bits is None else options.bits,
                deadline_s=options.deadline,
                credentials=_credentials(options),
            )
        )
    except (ValueError, OSError) as error:
        command.error(str(error))
    except RefusedError as error:
        print(f"{command.prog}: refused by {options.server}: {error}", file=sys.stderr)
        return REFUSED
    except LostError as error:
        print(f"{command.prog}: {options.server}: {error}", file=sys.stderr)
        return UNANSWERED
    except KeyboardInterrupt:
        return 130
    print(json.dumps(asdict(pushed)))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the samples. Returns the exit code: 0, ``UNWRITTEN``, 2, ``REFUSED`` or ``UNANSWERED``."""
    command = parser()
    options = command.parse_args(arguments)
    check(command, options)
    import torch  # noqa: PLC0415

    from edge.journal import Journal, JournalError  # noqa: PLC0415
    from edge.samples import Samples  # noqa: PLC0415

    torch.set_num_threads(options.threads)
    if options.learn:
        return _learn(command, options)
    try:
        samples = Samples(options.samples, options.shard, options.limit, options.repeat)
        plan = _plan(options)
        journal = Journal(options.out)
    except FileExistsError:
        command.error(f"events file {options.out} is there already; name a new one")
    except (ValueError, OSError) as error:
        command.error(str(error))
    gc.freeze()  # what was imported stays: no collection looks at it again, not even at the end
    try:
        tallies = asyncio.run(_run(options, samples, plan, journal))
    except (ValueError, OSError) as error:
        journal.discard_if_empty()
        command.error(str(error))
    except JournalError as error:
        print(f"{command.prog}: {error}", file=sys.stderr)
        return UNWRITTEN
    except KeyboardInterrupt:
        return 130
    finally:
        journal.close()
    refusals = [tally.refused for tally in tallies if tally.refused is not None]
    for refusal in dict.fromkeys(refusals):
        print(f"{command.prog}: refused by {options.server}: {refusal}", file=sys.stderr)
    if refusals:
        return REFUSED
    return UNANSWERED if any(tally.failed for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())

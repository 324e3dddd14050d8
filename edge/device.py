"""The device: takes samples, runs the head, encodes, sends, and writes down what each sample cost.

``python -m edge.device --server HOST:PORT --model RUN/models/METHOD --samples FILE --out EVENTS.jsonl``

``--as``, ``--level`` and ``--max-bytes`` belong to the ``--model`` before them, so that one bundle can be
several rows of a table: ``--model DIR --as low --level 0 --model DIR --as high --level 7``.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.arguments import (
    Parser,
    address,
    count,
    existing_file,
    existing_folder,
    name,
    probability,
    seconds,
)
from edge.leash import Leash

if TYPE_CHECKING:
    from edge.journal import Journal
    from edge.samples import Samples
    from edge.session import Plan, Tally

__all__ = ["REFUSED", "UNANSWERED", "UNWRITTEN", "main"]

#: Exit code where the events could not be written: the disk is full.
UNWRITTEN = 1
#: Exit code where the server refused the device: other model, tables or protocol.
REFUSED = 3
#: Exit code where some sample got no answer, from anywhere.
UNANSWERED = 4


def _shard(text: str) -> tuple[int, int]:
    index, _, total = text.partition("/")
    if not (index.isdecimal() and total.isdecimal() and int(index) < int(total)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 0 <= I < N")
    return int(index), int(total)


class _Model(argparse.Action):
    """Adds to a list of models; what is chosen for each is gathered in ``chosen``, a dict for every model."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), values])
        namespace.chosen = [*getattr(namespace, "chosen", []), {}]


class _OfModel(argparse.Action):
    """An option of the model that was named last: no two lists have to be kept in step."""

    def __init__(self, option_strings: Sequence[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, default=argparse.SUPPRESS, **settings)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        chosen = getattr(namespace, "chosen", None)
        if not chosen:
            raise argparse.ArgumentError(self, "has to stand behind the --model that it is for")
        if self.dest in chosen[-1]:
            raise argparse.ArgumentError(self, "is given twice for one --model")
        chosen[-1][self.dest] = values


def _parser() -> Parser:
    parser = Parser(
        prog="python -m edge.device",
        description="Run samples through the device halves of split models, with a tail server's help.",
        epilog=f"Exit codes: 0 every sample was answered; {UNWRITTEN} the events could not be written; "
        f"2 bad arguments or files; {REFUSED} the server refused a model, its tables or the protocol; "
        f"{UNANSWERED} some sample failed.",
    )
    add = parser.add_argument
    add(
        "--model",
        type=existing_folder,
        action=_Model,
        required=True,
        metavar="DIR",
        help="a model bundle, or its device/ folder; several are run one after the other",
    )
    add(
        "--as",
        "--method",
        dest="method",
        type=name,
        action=_OfModel,
        metavar="NAME",
        help="of the --model before it: its name in the events, in the place of its own",
    )
    add(
        "--level",
        type=count(0),
        action=_OfModel,
        metavar="N",
        help="of the --model before it: the level at which it encodes, from 0 (default: the highest)",
    )
    add(
        "--max-bytes",
        type=count(1),
        action=_OfModel,
        metavar="B",
        help="of the --model before it: encode each sample at the highest level, up to --level, whose "
        "payload is at most B bytes; where even the lowest is longer nothing is sent",
    )
    add(
        "--samples",
        type=existing_file,
        required=True,
        metavar="FILE",
        help="safetensors: images uint8 [N,C,H,W]; optional labels, ids int64 [N]",
    )
    add(
        "--out", type=Path, required=True, metavar="FILE", help="new file for the events, a line of JSON each"
    )
    add("--server", type=address, metavar="HOST:PORT", help="the tail server; not needed for whole models")
    add("--run", default="run", metavar="NAME", help="name of the run in the events (default: %(default)s)")
    add(
        "--client",
        default="device",
        metavar="NAME",
        help="name of this device in the events (default: %(default)s)",
    )
    add(
        "--in-flight",
        type=count(1),
        default=1,
        metavar="N",
        help="samples in progress at once, as far as the server allows (default: %(default)s)",
    )
    add(
        "--deadline",
        type=seconds,
        default=10.0,
        metavar="S",
        help="time for the server to answer a sample, retries included (default: %(default)s)",
    )
    add(
        "--fallback",
        type=existing_folder,
        metavar="DIR",
        help="a whole model that answers where the server did not",
    )
    add("--shard", type=_shard, default=(0, 1), metavar="I/N", help="take every N-th sample from the I-th on")
    add("--limit", type=count(1), metavar="N", help="take at most N samples")
    add("--repeat", type=count(1), default=1, metavar="N", help="go through the samples N times")
    add(
        "--interval-ms",
        type=seconds,
        default=0.0,
        metavar="MS",
        help="schedule samples this far apart; the latency of one that has to wait for its turn counts from "
        "when it was scheduled",
    )
    add(
        "--warmup",
        type=count(0),
        default=3,
        metavar="N",
        help="unrecorded runs of head and encoder at the start (default: %(default)s)",
    )
    add(
        "--threads",
        type=count(1),
        default=1,
        metavar="N",
        help="threads to compute with (default: %(default)s)",
    )
    add(
        "--erase",
        type=probability,
        default=0.0,
        metavar="P",
        help="lose each packet of a payload with this probability on the way to the server",
    )
    add(
        "--erase-seed",
        type=count(0),
        default=0,
        metavar="S",
        help="what is lost is drawn from this seed and the sample's number (default: %(default)s)",
    )
    add(
        "--leashed",
        action="store_true",
        help="for a program that runs devices: before each model print 'ready NAME' and wait for a line on "
        "standard input; end when that closes",
    )
    add("--tls-ca", type=existing_file, metavar="FILE", help="certificates to trust (PEM); turns TLS on")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    import grpc  # noqa: PLC0415  --help need not wait for it

    from edge.sending import Erasure  # noqa: PLC0415
    from edge.session import Plan  # noqa: PLC0415

    return Plan(
        run=options.run,
        client=options.client,
        server=options.server,
        in_flight=options.in_flight,
        deadline_s=options.deadline,
        interval_s=options.interval_ms / 1e3,
        warmup=options.warmup,
        credentials=grpc.ssl_channel_credentials(options.tls_ca.read_bytes()) if options.tls_ca else None,
        erasure=Erasure(options.erase, options.erase_seed),
    )


async def _run(options: argparse.Namespace, samples: Samples, plan: Plan, journal: Journal) -> list[Tally]:
    from edge.bundle import device_spec, load_device  # noqa: PLC0415
    from edge.sending import Choice  # noqa: PLC0415
    from edge.session import run_model  # noqa: PLC0415

    choices = [Choice(**chosen) for chosen in options.chosen]
    names = [choice.method or device_spec(f).name for f, choice in zip(options.model, choices, strict=True)]
    for twice in (one for one in names if names.count(one) > 1):
        raise ValueError(f"two models would both be called {twice} in the events: name one of them with --as")
    fallback = None if options.fallback is None else load_device(options.fallback)
    leash = Leash() if options.leashed else None
    tallies = []
    for folder, choice in zip(options.model, choices, strict=True):
        half = load_device(folder)  # one at a time: a small board need not hold them all
        if leash is not None:
            await asyncio.to_thread(leash.wait, choice.name(half))
        tallies.append(await run_model(half, samples, plan, journal, fallback, choice))
    return tallies


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the samples. Returns the exit code: 0, ``UNWRITTEN``, 2, ``REFUSED`` or ``UNANSWERED``."""
    parser = _parser()
    options = parser.parse_args(arguments)
    import torch  # noqa: PLC0415

    from edge.journal import Journal, JournalError  # noqa: PLC0415
    from edge.samples import Samples  # noqa: PLC0415

    torch.set_num_threads(options.threads)
    try:
        samples = Samples(options.samples, options.shard, options.limit, options.repeat)
        plan = _plan(options)
        journal = Journal(options.out)
    except FileExistsError:
        parser.error(f"events file {options.out} is there already; name a new one")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    try:
        tallies = asyncio.run(_run(options, samples, plan, journal))
    except (ValueError, OSError) as error:
        journal.discard_if_empty()
        parser.error(str(error))
    except JournalError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return UNWRITTEN
    except KeyboardInterrupt:
        return 130
    finally:
        journal.close()
    refusals = [tally.refused for tally in tallies if tally.refused is not None]
    for refusal in dict.fromkeys(refusals):
        print(f"{parser.prog}: refused by {options.server}: {refusal}", file=sys.stderr)
    if refusals:
        return REFUSED
    return UNANSWERED if any(tally.failed for tally in tallies) else 0


if __name__ == "__main__":
    sys.exit(main())

"""The device: takes samples, runs the head, encodes, sends, and writes down what each sample cost.

``python -m edge.device --server HOST:PORT --model RUN/models/METHOD --samples FILE --out EVENTS.jsonl``
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge.arguments import Parser, address, count, existing_file, existing_folder, seconds
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
        action="append",
        required=True,
        metavar="DIR",
        help="a model bundle, or its device/ folder; several are run one after the other",
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
        "--leashed",
        action="store_true",
        help="for a program that runs devices: before each model print 'ready NAME' and wait for a line on "
        "standard input; end when that closes",
    )
    add("--tls-ca", type=existing_file, metavar="FILE", help="certificates to trust (PEM); turns TLS on")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    import grpc  # noqa: PLC0415  --help need not wait for it

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
    )


async def _run(options: argparse.Namespace, samples: Samples, plan: Plan, journal: Journal) -> list[Tally]:
    from edge.bundle import load_device  # noqa: PLC0415
    from edge.session import run_model  # noqa: PLC0415

    fallback = None if options.fallback is None else load_device(options.fallback)
    leash = Leash() if options.leashed else None
    tallies = []
    for folder in options.model:
        half = load_device(folder)  # one at a time: a small board need not hold them all
        if leash is not None:
            await asyncio.to_thread(leash.wait, half.spec.name)
        tallies.append(await run_model(half, samples, plan, journal, fallback))
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

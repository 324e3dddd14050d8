"""The command line of a device, and which of its options go together."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from edge.leash import add_leash

__all__ = ["REFUSED", "UNANSWERED", "UNWRITTEN", "check", "parser"]

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


_NEEDS = ("edge.bundle", "edge.samples", "edge.schedule", "edge.session")


def parser() -> Parser:
    """What a device takes on its command line."""
    parser = Parser(
        _NEEDS,
        prog="python -m edge.device",
        description="Run samples through the device halves of split models, with a tail server's help.",
        epilog="Exit codes: 0 every sample was answered, or learnt; "
        f"{UNWRITTEN} the events could not be written; "
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
        "--head-s",
        type=seconds,
        action=_OfModel,
        metavar="S",
        help="of the --model before it: let its head last as long as on a slower device, S seconds",
    )
    add(
        "--encode-s",
        type=seconds,
        action=_OfModel,
        metavar="S",
        help="of the --model before it: let its encoder last S seconds",
    )
    add(
        "--samples",
        type=existing_file,
        required=True,
        metavar="FILE",
        help="safetensors: images uint8 [N,C,H,W]; optional labels, ids int64 [N]",
    )
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="new file for the events, a line of JSON each; needed unless the device learns",
    )
    add(
        "--learn",
        action="store_true",
        help="push class statistics of the samples, which have labels, to the server's prototypes",
    )
    add(
        "--bits",
        type=count(1),
        metavar="B",
        help="with --learn: bits of a value of the statistics, 1 to 16, 32 or 64 (default: 32)",
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
        "--schedule",
        type=existing_file,
        metavar="FILE",
        help="safetensors: at_s float64 [N], seconds after the start at which each sample is due, in order; "
        "or pause_s float64 [N], seconds behind the answer before. No sample begins earlier; its latency "
        "counts from when it begins",
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
    add_leash(
        parser,
        "for a program that runs devices: before each model, when it is ready to run, print 'ready NAME' "
        "and wait for a line on standard input; end when that closes",
    )
    add("--tls-ca", type=existing_file, metavar="FILE", help="certificates to trust (PEM); turns TLS on")
    return parser


# Options that mean nothing to a device that learns, or would make it count a sample twice.
_ONLY_RUNNING = (
    *("out", "run", "in_flight", "fallback", "repeat", "interval_ms", "schedule", "warmup", "erase"),
    *("erase_seed", "leashed", "method", "level", "max_bytes", "head_s", "encode_s"),
)


def check(parser: Parser, options: argparse.Namespace) -> None:
    """End with an error where options do not go together."""
    if not options.learn:
        if options.out is None:
            parser.error("the following arguments are required: --out")
        if options.bits is not None:
            parser.error("--bits is of no use without --learn")
        if options.schedule is not None and options.interval_ms:
            parser.error("--schedule and --interval-ms both say when samples begin: give one of them")
        return
    if options.server is None:
        parser.error("--learn needs a tail server: --server HOST:PORT")
    if len(options.model) > 1:
        parser.error("--learn takes one --model")
    chosen = {**vars(options), **options.chosen[0]}
    for dest in _ONLY_RUNNING:
        if chosen.get(dest) != parser.get_default(dest) and dest in chosen:
            parser.error(f"--{dest.replace('_', '-')} is of no use with --learn")

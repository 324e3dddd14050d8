"""Clauses of training: what a recipe does, in its order, up to the frozen bottleneck."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import Parameter

from edge.bottlenecks.base import Bottleneck, TrainingPass
from edge.coding import FrequencyTables
from edge.testing.clauses import BrokenError, Clause, NotCheckedError, Subject, clause, expect, telling

__all__ = ["CLAUSES", "REHEARSAL", "freezes"]

#: Passes in which every parameter has to get a gradient: what a pass uses may be drawn at random.
_PASSES = 16
#: Steps of training after calibrate, and how far each moves every parameter.
_STEPS = 3
_STEP = 0.01


def _check_reconstruction(subject: Subject, reconstruction: object) -> None:
    expect(
        isinstance(reconstruction, Tensor),
        f"the reconstruction is a {type(reconstruction).__name__}, expected a tensor",
    )
    assert isinstance(reconstruction, Tensor)
    shape = tuple(reconstruction.shape)
    expect(shape == subject.expected, f"reconstruction has shape {shape}, expected {subject.expected}")
    expect(bool(torch.isfinite(reconstruction).all()), "the reconstruction is not finite")


def _check_per_sample(subject: Subject, name: str, value: object, lowest: float) -> None:
    expect(isinstance(value, Tensor), f"{name} is a {type(value).__name__}, expected a tensor [N]")
    assert isinstance(value, Tensor)
    shape, expected = tuple(value.shape), (len(subject.features),)
    expect(shape == expected, f"{name} has shape {shape}, expected [N] = {expected}: one number a sample")
    low, high = (float(v) for v in value.detach().aminmax())
    allowed = "finite and not negative" if lowest == 0 else "finite"
    expect(lowest <= low <= high < math.inf, f"{name} lie in {low:g}..{high:g}, expected {allowed}")


@clause("prepare_training attaches what training needs, once")
def prepared(subject: Subject) -> None:
    """The second call changes nothing."""
    subject.bottleneck = subject.make()
    subject.bottleneck.prepare_training()
    before = {name: id(p) for name, p in subject.bottleneck.named_parameters()}
    subject.bottleneck.prepare_training()
    after = {name: id(p) for name, p in subject.bottleneck.named_parameters()}
    changed = sorted(n for n in before.keys() | after.keys() if before.get(n) != after.get(n))
    expect(
        not changed,
        f"a second call makes {', '.join(changed)} anew ({len(changed)} of {len(after)} parameters), "
        "which an optimiser would not know",
    )


@clause("forward returns (reconstruction, bits)", prepared)
def forward(subject: Subject) -> None:
    """Shapes and ranges of what a pass in training mode gives."""
    subject.bottleneck.train()
    found = subject.bottleneck(subject.features)
    expect(
        isinstance(found, tuple) and len(found) == 2,
        f"forward returned a {type(found).__name__}, expected the tuple (reconstruction, bits)",
    )
    reconstruction, bits = found
    _check_reconstruction(subject, reconstruction)
    _check_per_sample(subject, "bits", bits, 0.0)


@clause("training_pass returns what a recipe minimises", forward)
def training_pass(subject: Subject) -> None:
    """Shapes and ranges of all four parts."""
    _training_pass(subject)


def _training_pass(subject: Subject) -> TrainingPass:
    subject.bottleneck.train()
    found = subject.bottleneck.training_pass(subject.features)
    expect(isinstance(found, TrainingPass), f"a {type(found).__name__}, expected a TrainingPass")
    _check_reconstruction(subject, found.reconstruction)
    _check_per_sample(subject, "bits", found.bits, 0.0)
    _check_per_sample(subject, "rate", found.rate, 0.0)
    _check_per_sample(subject, "penalty", found.penalty, -math.inf)
    return found


@clause("gradients reach every parameter", training_pass)
def gradients(subject: Subject) -> None:
    """By way of the loss that a recipe makes of a training pass."""
    if not subject.bottleneck.learned:
        raise NotCheckedError("nothing is learned")
    trained = _trained(subject.bottleneck)
    expect(bool(trained), "learned is True, but there is no parameter that a recipe could train")

    def loss() -> Tensor:
        found = _training_pass(subject)
        distortion = (found.reconstruction - 1).square().mean()
        return distortion + found.rate.mean() + found.penalty.mean()

    without = _accumulated(subject, loss, trained)
    expect(
        not without,
        f"no finite gradient for {', '.join(without)} ({len(without)} of {len(trained)} parameters); "
        "a usual cause is detach(), or round() without a straight-through estimate",
    )
    encoder = {n: p for n, p in trained.items() if n.startswith("encoder.")}
    expect(
        not encoder or _any_gradient(encoder),
        f"the gradients of all {len(encoder)} parameters of the encoder are zero; "
        "a usual cause is round() ahead of the decoder, whose derivative is zero",
    )
    subject.bottleneck.zero_grad()


def _trained(bottleneck: Bottleneck) -> dict[str, Parameter]:
    """What a recipe trains. (A density's quantiles are found by bisection.)"""
    if not bottleneck.learned:
        return {}
    named = bottleneck.named_parameters()
    return {n: p for n, p in named if p.requires_grad and not n.endswith("quantiles")}


def _accumulated(subject: Subject, loss: Callable[[], Tensor], wanted: dict[str, Parameter]) -> list[str]:
    """Add up gradients until all wanted are there; the names of those that stay without a finite one."""
    subject.bottleneck.zero_grad()
    without = list(wanted)
    for _ in range(_PASSES):
        value = loss()
        if not value.requires_grad:
            break
        value.backward()  # type: ignore[no-untyped-call]
        grads = {name: wanted[name].grad for name in wanted}
        without = [n for n, g in grads.items() if g is None or not bool(torch.isfinite(g).all())]
        if not without and _any_gradient(wanted):
            break
    return without


def _any_gradient(parameters: dict[str, Parameter]) -> bool:
    return any(p.grad is not None and bool((p.grad != 0).any()) for p in parameters.values())


@clause("calibrate leaves it fit for training", training_pass)
def calibrates(subject: Subject) -> None:
    """A recipe calls it after a warm-up, and trains on.

    So does the kit, a little: what starts at zero and stays there decodes alike whatever its code is, and
    would hide a coder that loses it.
    """
    bottleneck = subject.bottleneck
    with torch.no_grad():
        bottleneck.calibrate(subject.features)
    trained = _trained(bottleneck)
    for _ in range(_STEPS):
        found = _training_pass(subject)
        target = torch.rand_like(found.reconstruction)
        loss = (found.reconstruction - target).square().mean() + found.penalty.mean()
        if not (trained and loss.requires_grad):
            return
        bottleneck.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():  # not by an optimiser: these load torch._dynamo
            for parameter in trained.values():
                if parameter.grad is not None:
                    parameter.sub_(_STEP * parameter.grad.sign())
    bottleneck.zero_grad()


@clause("observe and freeze end the training", prepared)
def freezes(subject: Subject) -> None:
    """As a recipe ends its training of the code. Notes what encode did before."""
    bottleneck = subject.bottleneck.eval()
    coded = bottleneck.tables is not None
    try:
        subject.early = bottleneck.encode(subject.features)
    except Exception as error:  # judged by a clause of its own
        subject.early = error
    bottleneck.observe(subject.features)
    bottleneck.freeze()
    tables = bottleneck.tables
    expect(
        tables is None or isinstance(tables, FrequencyTables),
        f"tables is a {type(tables).__name__}, expected FrequencyTables or None",
    )
    if isinstance(subject.early, list) and not coded and tables is not None:
        subject.early = BrokenError(
            f"gave {len(subject.early)} payloads before there were tables to code them with"
        )


@clause("rehearse and transmit train the decoder and not the encoder", freezes)
def rehearsal(subject: Subject) -> None:
    """What training behind a frozen encoder runs on."""
    bottleneck = subject.bottleneck.eval()
    named = dict(bottleneck.named_parameters())
    decoder = {n: p for n, p in named.items() if n.startswith("decoder.") and p.requires_grad}
    encoder = {n: p for n, p in named.items() if n.startswith("encoder.") and p.requires_grad}
    for name in ("rehearse", "transmit"):
        method = getattr(bottleneck, name)
        _check_rehearsal(subject, name, method, decoder, encoder)
    bottleneck.zero_grad()


def _check_rehearsal(
    subject: Subject,
    name: str,
    method: Callable[[Tensor], Tensor],
    decoder: dict[str, Parameter],
    encoder: dict[str, Parameter],
) -> None:
    def loss() -> Tensor:
        reconstruction = method(subject.features)
        with telling(name):
            _check_reconstruction(subject, reconstruction)
        return (reconstruction - 1).square().mean()

    if not (subject.bottleneck.learned and decoder):
        loss()
        return
    without = _accumulated(subject, loss, decoder)
    expect(
        not without,
        f"{name} leaves {', '.join(without)} without a gradient ({len(without)} of {len(decoder)} parameters "
        "of the decoder); a usual cause is torch.no_grad() around the decoder, not the encoder alone",
    )
    leaks = [n for n, p in encoder.items() if p.grad is not None and bool((p.grad != 0).any())]
    expect(
        not leaks,
        f"{name} lets gradients into {', '.join(leaks)} ({len(leaks)} of {len(encoder)} parameters of the "
        "encoder), which would change payloads under frozen tables; run the encoder under torch.no_grad()",
    )


#: In the order of a recipe.
CLAUSES: tuple[Clause, ...] = (prepared, forward, training_pass, gradients, calibrates, freezes)
#: The second stage of a recipe, behind the frozen code.
REHEARSAL: tuple[Clause, ...] = (rehearsal,)

"""What a step asks of a processor."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge.split import macs_of
from fedsim.federated.local import LocalTraining
from fedsim.federated.method import FederatedMethod
from fedsim.federated.methods.fedavg import FedAvg
from fedsim.federated.methods.fedavg_bottleneck import FedAvgBottleneck
from fedsim.federated.methods.fedproto import FedProto
from fedsim.federated.methods.fedtgp import FedTGP
from fedsim.federated.methods.local import Local
from fedsim.federated.methods.reconnaissance import Reconnaissance
from fedsim.federated.secure_aggregation import Masked
from fedsim.federated.work import TRAINING_PASSES, Work, layers_of_client
from fedsim.hardware.compute import Layer, Roofline
from fedsim.training.loop import Images, batches

from .conftest import dealt

LAYERS = (Layer(1000, 10), Layer(10, 1000))
TRAINING = LocalTraining(epochs=3, batch_size=16)


@given(st.integers(1, 70), st.integers(1, 3), st.integers(1, 20))
def test_a_training_has_the_batches_that_it_is_given(samples: int, epochs: int, size: int) -> None:
    images = Images(torch.zeros(samples, 1, 1, 1, dtype=torch.uint8), torch.zeros(samples, dtype=torch.int64))
    once = [len(batch.labels) for batch in batches(images, size, torch.Generator())]
    work = Work.training(LAYERS, samples, epochs, size)
    assert (work.trained, work.steps) == (epochs * sum(once), epochs * len(once))
    assert (work.seen, work.batches) == (0, 0)


def test_time_by_hand() -> None:
    roofline = Roofline(overhead_s=0.5, macs_per_s=1000.0, bytes_per_s=500.0, layer_s=0.125)
    once = 1.0 + 2.0  # the first layer is bound by arithmetic, the second by memory
    call = 0.5 + 2 * 0.125
    assert Work(LAYERS, seen=7, batches=2).seconds(roofline) == pytest.approx(7 * once + 2 * call)
    training = Work(LAYERS, trained=5, steps=3)
    assert training.seconds(roofline) == pytest.approx(3 * (5 * once + 3 * call))
    assert TRAINING_PASSES == 3
    both = training.and_seen(513)
    assert both.seconds(roofline) == pytest.approx(3 * (5 * once + 3 * call) + 513 * once + 2 * call)
    assert Work(LAYERS).seconds(roofline) == 0.0


def test_methods_say_what_their_clients_do() -> None:
    site = dealt()
    network = site.network(0)
    macs = macs_of(network, site.dataset.image_shape)
    for method in (FedAvg(TRAINING), FedProto(TRAINING), Local(TRAINING)):
        work = method.work(site, 0, 40)
        assert sum(layer.macs for layer in work.layers) == macs
        assert (work.trained, work.steps, work.seen) == (120, 9, 0)
    tgp = FedTGP(training=TRAINING).work(site, 0, 40)  # whose prototypes are of a pass of their own
    assert (tgp.trained, tgp.steps, tgp.seen, tgp.batches) == (120, 9, 40, 1)
    masked = Masked(FedProto(TRAINING, weighting="count"), least=2)
    assert masked.work(site, 0, 40) == FedProto(TRAINING).work(site, 0, 40)


def test_counting_is_no_training_and_has_no_classifier() -> None:
    site = dealt()
    work = Reconnaissance().work(site, 0, 40)
    assert (work.trained, work.steps, work.seen, work.batches) == (0, 0, 40, 1)
    head = site.dimension * site.classes
    whole = sum(layer.macs for layer in layers_of_client(site, 0))
    assert sum(layer.macs for layer in work.layers) == whole - head


def test_a_bottleneck_is_work_too() -> None:
    site = dealt()
    method = FedAvgBottleneck("stage2", arguments={"channels": 4})
    work = method.work(site, 0, 64)
    assert (work.trained, work.steps) == (64, 2)
    model = method._shared(site)
    assert sum(layer.macs for layer in work.layers) == macs_of(model, site.dataset.image_shape)
    assert sum(layer.macs for layer in work.layers) > sum(layer.macs for layer in layers_of_client(site, 0))


def test_a_stranger_does_not_have_to_say() -> None:
    class Stranger(Reconnaissance):
        work = FederatedMethod.work

    assert Stranger().work(dealt(), 0, 40) is None

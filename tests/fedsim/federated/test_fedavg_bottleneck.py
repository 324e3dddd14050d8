"""A bottleneck that clients learn together, and what becomes of devices with the one of an earlier round."""

import asyncio
import shutil

import numpy as np
import pytest
import torch
from flwr.serverapp import ServerApp

from edge.bundle import BundleError, load_device, load_server
from edge.client import TailClient
from edge.server import TailServer
from edge.service import Settings
from fedsim.errors import FederationError, ModelError
from fedsim.federated import method as methods
from fedsim.federated.bottlenecks import BottleneckTraining, averaged
from fedsim.federated.clients import client_app
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.grid import InlineGrid, run_inline
from fedsim.federated.method import State
from fedsim.federated.methods.fedavg_bottleneck import FedAvgBottleneck
from fedsim.federated.packet import Packet
from fedsim.federated.site import NetworkPlan, Site
from fedsim.federated.strategy import MethodStrategy
from fedsim.training.loop import as_input

from .conftest import dealt

CLIENTS, ROUNDS = 3, 2


def made(**options):
    training = BottleneckTraining(epochs=2, batch_size=32, learning_rate=3e-3)
    return FedAvgBottleneck(
        **{
            "cut": "stage2",
            "arguments": {"channels": 4, "encoder_channels": [8, 8], "decoder_channels": [8, 8]},
            "training": training,
            **options,
        }
    )


def run(site, method, round_ended=None, rounds=ROUNDS):
    strategy = MethodStrategy(
        site,
        method,
        Cohorts(site.clients, site.clients, 0),
        rounds,
        evaluate_every=1,
        round_ended=round_ended,
    )
    app = ServerApp()
    app.main()(lambda grid, context: strategy.run(grid))
    run_inline(app, InlineGrid(client_app(lambda context: (site, method)), site.clients, strict=True))
    return strategy


@pytest.fixture(scope="module")
def site():
    return dealt(clients=CLIENTS)


@pytest.fixture(scope="module")
def trained(site, tmp_path_factory):
    """A run: its strategy, how each round went, the server's folder, a device's folder of each round."""
    method, folder = made(), tmp_path_factory.mktemp("bundles")
    learned, devices = [], []

    def round_ended(state, record):
        learned.append(method.learned(state))
        method.save(site, state, folder / "served")
        devices.append(folder / f"device-{record.number}")
        shutil.copytree(folder / "served" / "device", devices[-1])

    strategy = run(site, method, round_ended)
    return strategy, learned, folder / "served", devices


def test_it_learns(trained, site):
    strategy, learned, _, _ = trained
    assert learned[1].loss < 0.75 * learned[0].loss
    assert learned[1].bits < learned[0].bits
    right = [
        sum(r.right for r in record.results[0] if (r.classes, r.test) == ("all", "global"))
        for record in strategy.records
    ]
    assert right[1] > right[0]
    assert [record.merged for record in strategy.records] == [(0, 1, 2)] * ROUNDS
    assert made().learned(made().start(site)) is None


def test_the_same_seed_gives_the_same_model(trained, site):
    again = run(site, made())
    assert again.state.to_bytes() == trained[0].state.to_bytes()
    assert again.records == trained[0].records
    found = State.from_bytes(again.state.to_bytes())
    assert found.to_bytes() == again.state.to_bytes()


async def asked(server, folder, images, labels):
    """A device asks about images: how many were told rightly, the sizes of its payloads; or the refusal."""
    half = load_device(folder)
    client = TailClient(server.address, half.handshake("device"))
    try:
        if not await client.connect():
            return client.refused
        right, sizes = 0, []
        for number, payload in enumerate(half.encode(half.features(images))):
            delivery = await client.ask(number, payload, 10.0)
            right += delivery.reply.labels[0] == int(labels[number])
            sizes.append(len(payload))
        return right, sizes
    finally:
        await client.close()


def test_an_outdated_device_is_told_to_update_and_a_fresh_one_is_answered(trained, site):
    strategy, _, served, (old, fresh) = trained
    images, labels = as_input(torch.from_numpy(site.dataset.x_test[:200])), site.dataset.y_test[:200]

    async def main():
        half = load_server(served)
        server = TailServer({half.model_id: half}, Settings(), "127.0.0.1:0")
        await server.start()
        try:
            return [await asyncio.wait_for(asked(server, one, images, labels), 60) for one in (old, fresh)]
        finally:
            await server.stop(5.0)

    refused, (right, sizes) = asyncio.run(main())
    ids = [load_device(folder).model_id for folder in (old, fresh)]
    assert f"{ids[0]} is outdated: {ids[1]} has replaced it; update this device's model" in refused
    assert load_device(old).fingerprint != load_device(fresh).fingerprint
    model = made().model(site, strategy.state)
    with torch.no_grad():
        expected = int((model.transmit(images).argmax(1) == torch.from_numpy(labels)).sum())
    assert abs(right - expected) <= 1  # a convolution may round otherwise in another batch
    assert right > 0.7 * len(labels)
    assert len(images[0].flatten()) > np.mean(sizes) > 1
    print(f"accuracy {right / len(labels):.3f}, payloads of {np.mean(sizes):.2f} bytes, at most {max(sizes)}")


def test_a_bundle_remembers_what_it_replaced(trained, site, tmp_path):
    strategy, _, served, (old, fresh) = trained
    assert load_server(served).replaces == (load_device(old).model_id,)
    assert load_device(fresh).replaces == ()
    method = made()
    model_id = method.save(site, strategy.state, tmp_path / "one")
    assert model_id == load_device(fresh).model_id
    assert method.save(site, strategy.state, tmp_path / "one") == model_id
    assert load_server(tmp_path / "one").replaces == ()  # not by itself
    method.save(site, method.start(site), tmp_path / "one")
    assert load_server(tmp_path / "one").replaces == (model_id,)
    with pytest.raises(BundleError, match="holds no device half"):
        load_device(tmp_path)


def test_what_travels_and_what_the_server_makes(site):
    model = made()._fresh(site)
    before = averaged(model)
    assert {name for name, _ in model.named_parameters()} - set(before) == {
        "bottleneck.prior.density.quantiles"
    }
    assert "bottleneck.prior.medians" in set(model.state_dict()) - set(before)
    assert any(name.endswith("running_mean") for name in before)
    model.eval().bottleneck.freeze()
    after = averaged(model)
    assert all(np.array_equal(after[name], value) for name, value in before.items())


def test_the_tables_are_those_of_the_mean_density(site):
    """The mean of two clients' values, frozen by hand."""
    method = made(warm_up=0)
    state = method.start(site)
    first = method._codec(site).decode(state.arrays["model"].tobytes())
    updates = []
    for client, (count, factor) in enumerate([(30, 1.5), (10, 2.5)]):
        values = {k: v * v.dtype.type(factor) if "matrices.0" in k else v for k, v in first.items()}
        packet = Packet(
            {
                "model": method._codec(site).encode(values),
                "count": count.to_bytes(8, "little"),
                "figures": np.array([1.0 + client, 8.0, 2.0]).tobytes(),
            }
        )
        updates.append((client, method.receive(site, packet)))
    merged = method.merge(site, state, updates)
    assert method.learned(merged).loss == pytest.approx(1.25)
    model = method._fresh(site)
    moved = {k: torch.tensor(v) * (1.75 if "matrices.0" in k else 1) for k, v in first.items()}
    model.load_state_dict(moved, strict=False)
    model.eval().bottleneck.freeze()
    found = method.model(site, merged).bottleneck
    assert torch.allclose(found.prior.medians, model.bottleneck.prior.medians, atol=1e-4)
    assert [len(t) for t in found.tables.frequencies] == [len(t) for t in model.bottleneck.tables.frequencies]
    assert merged.arrays["tables.frequencies"].dtype == np.uint32
    before = method.model(site, state).bottleneck
    assert found.fingerprint != before.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": bytes(8)}, "a client of 0 samples"),
        ({"figures": b"short"}, "figures of 5 bytes, expected 24"),
        ({"figures": np.array([np.nan, 1, 1]).tobytes()}, "figures nan, 1, 1 cannot be"),
        ({"figures": np.array([1, 1e300, 1]).tobytes()}, r"figures 1, 1e\+300, 1 cannot be"),
        ({"figures": np.array([1, 1, 1e30]).tobytes()}, r"a code of spread 1e\+30, allowed are at most 1000"),
        ({"model": b"else"}, "arrays of other names"),
    ],
    ids=["count", "length", "values", "bits", "spread", "model"],
)
def test_a_reply_that_cannot_be(site, change, message):
    method = made()
    good = {
        "model": method.down(site, method.start(site))["model"],
        "count": (7).to_bytes(8, "little"),
        "figures": np.ones(3).tobytes(),
    }
    assert method.receive(site, Packet(good)).samples == 7
    with pytest.raises(FederationError, match=message):
        method.receive(site, Packet({**good, **change}))


@pytest.mark.parametrize("value", [-1e6, 1e6, 1e3])
def test_a_density_of_which_no_tables_can_be_made_is_refused(site, value):
    """Such values keep within all limits, and would end the run when the server freezes their mean."""
    method = made()
    first = method._codec(site).decode(method.start(site).arrays["model"].tobytes())
    for part in ("density.matrices", "density.biases"):
        values = {k: np.full_like(v, value) if part in k else v for k, v in first.items()}
        packet = {
            "model": method._codec(site).encode(values),
            "count": (7).to_bytes(8, "little"),
            "figures": np.ones(3).tobytes(),
        }
        if part == "density.biases" or value < 0:
            with pytest.raises(
                FederationError, match=r"a density of codes from .*, allowed are -16384 to 16384"
            ):
                method.receive(site, Packet(packet))
        else:  # all of it on a point: tables of few symbols
            update = method.receive(site, Packet(packet))
            assert method.merge(site, method.start(site), [(0, update)]).arrays["tables.lengths"].max() < 100


def test_what_it_cannot_train(site):
    with pytest.raises(FederationError, match=r"needs a bottleneck of one factorized prior.*Vector"):
        made(bottleneck="vq", arguments={}).start(site)
    with pytest.raises(ModelError, match=r"cannot be made.*no layer 'stage9'"):
        made(cut="stage9").start(site)
    other = Site(site.dataset, site.shares, [NetworkPlan("digits-cnn", {"classes": 7})])
    with pytest.raises(FederationError, match="'digits-cnn' has 7 outputs and the data set 10 classes"):
        made().start(other)
    mixed = Site(site.dataset, site.shares, [*site.networks, *site.networks])
    with pytest.raises(FederationError, match="needs one network for all clients"):
        made().start(mixed)
    assert methods.find("fedavg-bottleneck") is FedAvgBottleneck

"""Rounds in virtual time, against closed forms."""

import numpy as np
import pytest

from edge.link import Direction, LinkSpec
from fedsim.federated.local import LocalTraining
from fedsim.federated.methods.fedproto import FedProto
from fedsim.federated.methods.reconnaissance import Reconnaissance
from fedsim.federated.pricing import price
from fedsim.measure.ledger import to_table

from ..conftest import dealt
from .fleets import LINK, POWER, RADIO, ROOFLINE, message, premises, trained, wire_bits, worked

METHOD = FedProto(LocalTraining(epochs=2, batch_size=32))
SITE = dealt(3)


def priced(clients, events, rounds=(1,), method=METHOD, site=SITE, **options):
    return price(clients, site, method, events, rounds, run="run", row="m", **options)


def step_s(client, site=SITE):
    """What a step takes: three times the work of a forward pass, and three calls a batch."""
    samples = len(site.shares[client].samples(1))
    macs = sum(layer.macs for layer in METHOD.work(site, client, 1).layers)
    calls = 2 * -(-samples // 32)
    return 3 * (2 * samples * macs / ROOFLINE.macs_per_s + calls * ROOFLINE.overhead_s)


def test_a_client_on_a_link_alone():
    events = trained([(20_000, 3_000)], merge_s=0.125)
    (one,) = priced(premises(1), events).rounds
    down, up = wire_bits(20_000) / 2e6 + 0.030, wire_bits(3_000) / 1e6 + 0.010
    assert one.end_s == pytest.approx(down + step_s(0) + up + 0.125, rel=1e-12)
    assert (one.start_s, one.straggler, one.behind_s) == (0.0, 0, 0.0)
    assert (8 * one.down_bytes, 8 * one.up_bytes) == (wire_bits(20_000), wire_bits(3_000))


def test_what_travels_beside_a_frame_is_said_by_the_caller():
    events = trained([(20_000, 3_000)])
    (one,) = priced(premises(1), events, overhead=500).rounds
    assert 8 * one.up_bytes == wire_bits(3_000, 500)


def test_clients_that_are_alike_share_the_link():
    site = dealt(3)
    site.shares[1:] = [site.shares[0]] * 2
    (one,) = priced(premises(3), trained([(20_000, 3_000)] * 3), site=site).rounds
    down, up = 3 * wire_bits(20_000) / 2e6 + 0.030, 3 * wire_bits(3_000) / 1e6 + 0.010
    assert one.end_s == pytest.approx(down + step_s(0, site) + up, rel=1e-12)
    assert one.behind_s == pytest.approx(0.0, abs=1e-12)


def test_who_replies_last_and_by_how_much():
    """Without a link, a client's time is that of its own samples."""
    clients, none = premises(3, LinkSpec()), [(10, 10)] * 3
    site = dealt(3, "dirichlet", alpha=0.5)
    (one,) = priced(clients, trained(none), site=site).rounds
    took = np.array([step_s(client, site) for client in range(3)])
    assert len(set(took)) == 3
    assert one.straggler == took.argmax()
    assert one.behind_s == pytest.approx(took.max() - np.median(took))
    assert one.end_s == pytest.approx(took.max())
    (late,) = priced(clients, trained(none), site=site, deadline_s=1.001 * float(np.median(took))).rounds
    assert late.beyond == (int(took.argmax()),)
    assert late.end_s == one.end_s


def test_rounds_follow_each_other():
    events = [*trained([(20_000, 3_000)], 1, 0.5), *trained([(20_000, 3_000)], 2)]
    first, second, third = priced(premises(1), events, [1, 2, 3]).rounds
    assert first.duration_s == pytest.approx(second.duration_s + 0.5)
    assert (second.start_s, third.start_s) == (first.end_s, second.end_s)
    assert (third.duration_s, third.straggler, third.behind_s) == (0.0, None, None)  # nobody was asked


def test_of_who_drops_out_the_work_is_waited_for():
    events = [message("down", client, 20_000) for client in range(2)] + [message("up", 0, 3_000)]
    (one,) = priced(premises(2), events).rounds
    assert one.straggler == 0
    assert 8 * one.up_bytes == wire_bits(3_000)
    assert one.end_s > step_s(1)


def test_joules_of_one_exchange():
    events = trained([(20_000, 3_000)], merge_s=10.0)
    found = priced(premises(1, radio=RADIO), events)
    (one,) = found.rounds
    down, up = wire_bits(20_000), wire_bits(3_000)
    waking = 0.64 + 0.25  # half of its paging period, and the promotion
    reached = waking + down / 2e6 + 0.020  # both ways have the mean delay
    assert (
        step_s(0) + 0.020 > 3.0
    )  # so that the tail behind the download is a whole one, and the radio has to wake again
    assert one.end_s == pytest.approx(reached + step_s(0) + 0.25 + up / 1e6 + 0.020 + 10.0)
    promotion, tail = (1.2 - 0.01) * 0.25, 0.99 * 1.0 + 0.49 * 2.0
    used = one.energy
    assert used.compute_j == pytest.approx((POWER.active_w - POWER.base_w) * step_s(0))
    assert used.down_j == pytest.approx(promotion + 1.29 * down / 2e6 + down * 5e-8 + tail)
    assert used.up_j == pytest.approx(promotion + 1.29 * up / 1e6 + up * 4e-7 + tail)
    assert (found.promotion_j, found.tail_j) == pytest.approx((2 * promotion, 2 * tail))
    assert found.afterwards_j == pytest.approx(0.0)
    assert found.rest_w == 2.01
    assert found.joules(1) == pytest.approx(2.01 * one.end_s + used.total_j)
    assert found.total_j == found.joules(1)


def test_a_tail_that_outlasts_the_last_round_is_told_apart():
    found = priced(premises(1, radio=RADIO), trained([(20_000, 3_000)]))
    promotion, bits = 1.19 * 0.25, 1.29 * wire_bits(3_000) / 1e6 + wire_bits(3_000) * 4e-7
    assert found.rounds[0].energy.up_j == pytest.approx(promotion + bits + 0.99 * 0.020)  # until it arrives
    assert found.afterwards_j == pytest.approx(0.99 * (1 - 0.020) + 0.49 * 2.0)
    assert found.total_j == pytest.approx(found.joules(1) + found.afterwards_j)


def test_what_is_not_known_is_not_added_up():
    events = trained([(20_000, 3_000)])
    for options, names in (({"power": None}, {"compute_j"}), ({"radio": None}, {"down_j", "up_j"})):
        found = priced(premises(1, **options), events)
        used = found.rounds[0].energy
        assert {name for name in ("compute_j", "down_j", "up_j") if getattr(used, name) is None} == names
        assert used.total_j is found.rest_w is found.joules(1) is found.total_j is None


def test_without_a_device_a_step_takes_its_share_of_what_all_took_here():
    clients = premises(2, LinkSpec(), roofline=None)
    events = [*trained([(10, 10)] * 2), worked("step", 8.0)]
    samples = [len(SITE.shares[client].samples(1)) for client in range(2)]
    found = priced(clients, events, slowness={1: 3.0})
    took = [8.0 * samples[0] / sum(samples), 3 * 8.0 * samples[1] / sum(samples)]
    assert found.rounds[0].end_s == pytest.approx(max(took))
    assert found.notes == ["fleet.0 names no device; its steps take as long as on this machine"]
    unknown = priced(clients, trained([(10, 10)] * 2))
    assert unknown.rounds[0].end_s == pytest.approx(0.0)
    assert unknown.notes == ["fleet.0 names no device; its steps are left out: nobody measured them here"]


def test_a_method_that_does_not_say_takes_as_long_as_here():
    class Stranger(FedProto):
        def work(self, site, partition, samples):
            return None

    found = priced(premises(1), [*trained([(10, 10)]), worked("step", 2.0)], method=Stranger())
    assert found.rounds[0].end_s == pytest.approx(2.0, abs=0.05)
    (note,) = found.notes
    assert note == "Stranger does not say what work a step is; its steps take as long as on this machine"


def test_counting_costs_a_forward_pass():
    (one,) = priced(premises(1, LinkSpec()), trained([(10, 10)]), method=Reconnaissance()).rounds
    samples = len(SITE.shares[0].samples(1))
    macs = sum(layer.macs for layer in Reconnaissance().work(SITE, 0, 1).layers)
    assert one.end_s == pytest.approx(samples * macs / 1e6 + 0.001)


def test_the_ledger_has_what_the_figures_have():
    events = [*trained([(20_000, 3_000)] * 3), *trained([(20_000, 3_000)] * 3, 2)]
    found = priced(premises(3, radio=RADIO), events, [1, 2])
    rows = to_table(found.events).to_pylist()
    assert {row["provenance"] for row in rows} == {"modelled"}
    for one in found.rounds:
        mine = [row for row in rows if row["round"] == one.number]
        stages = {
            stage: [row for row in mine if row["stage"] == stage]
            for stage in ("link-down", "device-step", "link-up", "link-round")
        }
        assert [len(rows) for rows in stages.values()] == [3, 3, 3, 1]
        assert sum(row["wire_bytes"] for row in stages["link-down"]) == one.down_bytes
        assert sum(row["wire_bytes"] for row in stages["link-up"]) == one.up_bytes
        for stage, joules in zip(
            stages, (one.energy.down_j, one.energy.compute_j, one.energy.up_j), strict=False
        ):
            assert sum(row["joules"] for row in stages[stage]) == pytest.approx(joules)
        (whole,) = stages["link-round"]
        assert (whole["start_s"], whole["duration_s"]) == (one.start_s, pytest.approx(one.duration_s))
        last = max(row["start_s"] + row["duration_s"] for row in stages["link-up"])
        assert last == pytest.approx(one.end_s)


def test_the_same_seed_gives_the_same_and_jitter_and_loss_are_drawn():
    lossy = LinkSpec(Direction(1e6, 0.01, jitter_s=0.005, loss=0.2), Direction(2e6, 0.03, loss=0.2))
    events = trained([(20_000, 30_000)] * 3)
    first, again, other = (priced(premises(3, lossy), events, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.rounds[0].end_s != other.rounds[0].end_s
    (without,) = priced(premises(3, LINK), events).rounds
    assert first.rounds[0].end_s > without.end_s
    assert first.rounds[0].up_bytes == without.up_bytes

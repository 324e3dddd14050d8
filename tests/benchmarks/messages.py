"""Clients and server that exchange prototypes of ten classes, 64 float32 each, and do nothing else.

``python messages.py CLIENTS ROUNDS`` prints a line of JSON. The clients' work is a sum that is there
already, so that what is left is the cost of the engine: cohorts, packets, Flower's messages, the codec of the
statistics both ways, checks, and the merge.
"""

import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from edge.prototypes import ClassStatistics, StatisticsCodec
from fedsim.data import Dataset
from fedsim.federated.checks import check_classes
from fedsim.federated.clients import client_app
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.grid import InlineGrid, run_inline
from fedsim.federated.method import FederatedMethod, State
from fedsim.federated.packet import Packet
from fedsim.federated.site import NetworkPlan, Share, Site
from fedsim.federated.strategy import MethodStrategy

CLASSES, DIMENSION, SAMPLES = 10, 64, 20
CODEC = StatisticsCodec(DIMENSION, 32, most_rows=CLASSES)
SUMS = np.random.default_rng(0).normal(size=(CLASSES, DIMENSION))
ROWS = np.arange(CLASSES), np.zeros(CLASSES, np.int64), np.full(CLASSES, SAMPLES)


def packet(statistics):
    encoded = CODEC.encode(statistics)
    return Packet().with_part("statistics", encoded.payload, encoded.ideal_bits)


@dataclass(frozen=True)
class Exchange(FederatedMethod):
    """Prototypes down, statistics up, their sum the next prototypes."""

    def start(self, site):
        return State(statistics={"statistics": ClassStatistics.empty(DIMENSION)})

    def down(self, site, state):
        return packet(state.statistics["statistics"])

    def step(self, site, client, packet_):
        CODEC.decode(packet_["statistics"])
        return packet(ClassStatistics(*ROWS, SUMS + client.partition))

    def receive(self, site, packet_):
        statistics = CODEC.decode(packet_["statistics"])
        check_classes(statistics, site.classes)
        return statistics

    def merge(self, site, state, updates):
        return State(statistics={"statistics": ClassStatistics.merged(found for _, found in updates)})

    def shared(self, site, state):
        return self.down(site, state)

    def predictors(self, site, client, packet_):
        return {}


def pss_mb():
    """Proportional set size of this process: its memory, what is shared with others by its share."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def one_run(clients, rounds):
    """Seconds and processor seconds of a run, the largest memory at the end of a round, and the result."""
    images, labels = np.zeros((CLASSES, 1, 8, 8), np.uint8), np.arange(CLASSES)
    dataset = Dataset(
        name="none", x_train=images, y_train=labels, x_test=images, y_test=labels, classes=CLASSES
    )
    shares = [Share((labels[:1],), labels[:1]) for _ in range(clients)]
    site = Site(dataset, shares, [NetworkPlan("digits-cnn", {"widths": [4, 8, 16]})])
    seen = []
    cohorts = Cohorts(clients, clients, 0)
    method = Exchange()
    strategy = MethodStrategy(
        site, method, cohorts, rounds, evaluate_every=rounds + 1, round_ended=lambda *_: seen.append(pss_mb())
    )
    app = ServerApp()
    app.main()(lambda grid, context: strategy.run(grid))
    grid = InlineGrid(client_app(lambda context: (site, method)), clients, strict=True)
    began = time.perf_counter(), time.process_time()
    run_inline(app, grid)
    spent = time.perf_counter() - began[0], time.process_time() - began[1]
    merged = strategy.state.statistics["statistics"]
    expected = SUMS * clients + sum(range(clients))
    assert np.allclose(merged.sums, expected, rtol=1e-5), "the sum of what clients sent"
    assert [len(record.merged) for record in strategy.records] == [clients] * rounds
    return *spent, max(seen)


def run_of_arrays(clients, rounds):
    """Processor seconds of the same exchange in an app that is written against Flower alone."""
    client, server = ClientApp(), ServerApp()
    values = SUMS.astype(np.float32)

    @client.train()
    def train(message, context):
        message.content["arrays"]["prototypes"].numpy()
        found = values + np.float32(context.node_config["partition-id"])
        record = ArrayRecord({"prototypes": Array(found), "counts": Array(ROWS[2])})
        return Message(RecordDict({"arrays": record}), reply_to=message)

    @server.main()
    def main(grid, context):
        prototypes = np.zeros((CLASSES, DIMENSION), np.float32)
        for number in range(rounds):
            record = ArrayRecord({"prototypes": Array(prototypes)})
            content = RecordDict({"arrays": record, "round": ConfigRecord({"number": number})})
            total, count = np.zeros((CLASSES, DIMENSION)), np.zeros((CLASSES, 1))
            for reply in grid.send_and_receive(
                [Message(content, node, "train") for node in grid.get_node_ids()]
            ):
                arrays = reply.content["arrays"]
                counts = arrays["counts"].numpy()[:, None]
                total += arrays["prototypes"].numpy() * counts
                count += counts
            prototypes = (total / count).astype(np.float32)

    began = time.process_time()
    run_inline(server, InlineGrid(client, clients, strict=True))
    return time.process_time() - began


def main(clients, rounds, repeats=5):
    before = pss_mb()
    found, arrays = [], []
    for _ in range(repeats):  # alternating
        found.append(one_run(clients, rounds))
        peak = max(one[2] for one in found)
        arrays.append(run_of_arrays(clients, rounds))
    seconds, processor = min(one[0] for one in found), min(one[1] for one in found)
    each = 1e3 * processor / (clients * (rounds + 2))  # everybody is queried and evaluated once as well
    each_of_arrays = 1e3 * min(arrays) / (clients * rounds)
    figures = {
        "clients": clients,
        "rounds": rounds,
        "repeats": repeats,
        "seconds": round(seconds, 3),
        "processor_seconds": round(processor, 3),
        "ms_a_message": round(each, 4),
        "ms_a_message_of_flowers_arrays": round(each_of_arrays, 4),
        "share_of_flowers_arrays": round(each / each_of_arrays, 2),
        "pss_before_mb": round(before),
        "peak_pss_mb": round(peak),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))

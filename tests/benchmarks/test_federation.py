"""What a federated run costs: messages in process, and the training of many small models at once."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedsim import data
from fedsim.federated.local import LocalTraining, cross_entropy
from fedsim.federated.networks import PrototypeNetwork, prototype_network
from fedsim.federated.vectorised import train_together
from fedsim.training.loop import Images

HERE = Path(__file__).parent
CLIENTS, ROUNDS = 1000, 5
#: Flower 1.41 on Ray with two actors on two other processors, the same exchange in an app of Flower's own
#: records; megabytes are the proportional set size of all its processes. Not measured here.
ON_RAY = {"seconds": 40.7, "megabytes": 750}

pytestmark = pytest.mark.benchmark


def test_messages(report):
    """A thousand clients that send prototypes of ten classes and 64 values, in a process of its own."""
    program = [sys.executable, HERE / "messages.py", str(CLIENTS), str(ROUNDS)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        program, check=True, capture_output=True, text=True, env=environment, cwd=HERE.parents[1]
    )
    figures = json.loads(found.stdout.splitlines()[-1])
    figures["flower_on_ray"] = ON_RAY
    asked = {"ms_a_message": "<= 0.15", "seconds": "<= 1.5", "peak_pss_mb": "<= 250"}
    report("federation-messages", figures, asked)


def perceptron():
    layers = OrderedDict(flatten=nn.Flatten(), hidden=nn.Linear(64, 128), relu=nn.ReLU())
    return PrototypeNetwork(nn.Sequential(layers), 128, 10)


def digits_cnn(*widths):
    return prototype_network("digits-cnn", {"widths": list(widths)}, (1, 8, 8), 10)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("perceptron", perceptron),
        ("digits-cnn-4-8-16", lambda: digits_cnn(4, 8, 16)),
        ("digits-cnn-8-16-32", lambda: digits_cnn(8, 16, 32)),
        ("digits-cnn-32-64-128", lambda: digits_cnn(32, 64, 128)),
    ],
)
def test_many_models_at_once(report, name, make):
    clients, samples, rounds = (16, 50, 3) if name.endswith("128") else (64, 100, 5)
    digits = data.load("digits")
    training = LocalTraining(epochs=1, batch_size=10, learning_rate=0.01, momentum=0.5)
    torch.manual_seed(0)
    network = make()
    first = {key: value.clone() for key, value in network.state_dict().items()}
    generator = np.random.default_rng(0)
    held = []
    for _ in range(clients):
        drawn = torch.from_numpy(generator.choice(len(digits.x_train), samples, replace=False))
        held.append(Images(torch.from_numpy(digits.x_train)[drawn], torch.from_numpy(digits.y_train)[drawn]))

    def generators():
        return [torch.Generator().manual_seed(number) for number in range(clients)]

    def one_at_a_time():
        states = []
        for own, drawing in zip(held, generators(), strict=True):
            network.load_state_dict(first)
            training.run(network, own, cross_entropy, drawing)
            states.append({key: value.clone() for key, value in network.state_dict().items()})
        return states

    def at_once():
        return train_together(network, [first] * clients, held, cross_entropy, training, generators())[0]

    times, processor = ({"one_at_a_time": [], "at_once": []} for _ in range(2))
    for _ in range(rounds):  # alternating
        for kind, train in (("one_at_a_time", one_at_a_time), ("at_once", at_once)):
            began = time.perf_counter(), time.process_time()
            found = train()
            times[kind].append(time.perf_counter() - began[0])
            processor[kind].append(time.process_time() - began[1])
            if kind == "one_at_a_time":
                alone = found
    apart = [
        max(float((one[key].double() - other[key].double()).abs().max()) for key in first)
        for one, other in zip(alone, found, strict=True)
    ]
    middle, busy = (
        {kind: statistics.median(spent) for kind, spent in each.items()} for each in (times, processor)
    )
    figures = {
        "network": name,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "clients": clients,
        "samples": samples,
        "steps": samples // training.batch_size,
        "ms_a_client": {kind: round(1e3 * spent / clients, 3) for kind, spent in middle.items()},
        "times_faster": round(middle["one_at_a_time"] / middle["at_once"], 2),
        "times_less_processor_time": round(busy["one_at_a_time"] / busy["at_once"], 2),
        # Where a value lies on the kink of a ReLU but for rounding, a gradient is another one.
        "difference": {"median": statistics.median(apart), "worst": max(apart)},
        "clients_within_1e-5": sum(one <= 1e-5 for one in apart),
    }
    asked = (
        {} if name.endswith("128") else {"times_faster": ">= 3", "clients_within_1e-5": f">= {clients - 1}"}
    )
    report("federation-many-models", figures, asked)

"""FedAvg on classes that come later, which is what it is held against."""

import numpy as np
import torch
from flwr.serverapp import ServerApp

from fedsim import data
from fedsim.federated.clients import client_app
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.grid import InlineGrid, run_inline
from fedsim.federated.local import LocalTraining
from fedsim.federated.method import Client
from fedsim.federated.methods.fedavg import FedAvg
from fedsim.federated.pretraining import Pretraining
from fedsim.federated.site import NetworkPlan
from fedsim.federated.sites import growing_site
from fedsim.federated.strategy import MethodStrategy

NETWORK = NetworkPlan("digits-cnn", {"widths": [4, 8, 8]})


def test_a_model_that_knows_the_base_classes_forgets_them():
    site = growing_site(
        data.load("digits"), range(5), range(5, 10), [NETWORK], clients=3, classes=1, shots=20, seed=1
    )
    training = LocalTraining(epochs=2, batch_size=16, learning_rate=0.05, momentum=0.5)
    method = FedAvg(training, Pretraining(epochs=5, batch_size=32, learning_rate=3e-3))
    strategy = MethodStrategy(site, method, Cohorts(3, 3, site.seed), 3, evaluate_every=3)

    def told():
        """Share of the base classes' test samples that are told."""
        packet = method.shared(site, strategy.state)
        predict = method.predictors(site, Client(0, 1, np.zeros(0, np.int64), {}), packet)["head"]
        base = site.dataset.y_test < 5
        right = predict(torch.from_numpy(site.dataset.x_test)).argmax(1).numpy() == site.dataset.y_test
        return float(right[base].mean())

    assert told() > 0.85
    app = ServerApp()
    app.main()(lambda grid, context: strategy.run(grid))
    run_inline(app, InlineGrid(client_app(lambda context: (site, method)), 3, strict=True))
    assert told() < 0.3

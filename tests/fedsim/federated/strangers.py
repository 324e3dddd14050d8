"""A Flower app that knows nothing of fedsim: linear regression, written against Flower's public API alone."""

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

TRUE = np.array([1.0, -2.0, 3.0])

client_app = ClientApp()


def data(context: Context) -> tuple[np.ndarray, np.ndarray]:
    partition = int(context.node_config["partition-id"])
    generator = np.random.default_rng(partition)
    inputs = generator.normal(size=(20 + partition, 3))
    return inputs, inputs @ TRUE


@client_app.train()
def train(message: Message, context: Context) -> Message:
    inputs, targets = data(context)
    start = message.content["arrays"]["w"].numpy()
    pull = float(message.content["config"].get("proximal-mu", 0.0))
    weights = start.copy()
    for _ in range(int(context.run_config["local-steps"])):
        gradient = inputs.T @ (inputs @ weights - targets) / len(targets) + pull * (weights - start)
        weights -= 0.1 * gradient
    content = RecordDict(
        {
            "arrays": ArrayRecord({"w": Array(weights)}),
            "metrics": MetricRecord({"num-examples": len(targets)}),
        }
    )
    return Message(content, reply_to=message)


@client_app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    inputs, targets = data(context)
    error = float(((inputs @ message.content["arrays"]["w"].numpy() - targets) ** 2).mean())
    metrics = MetricRecord({"error": error, "num-examples": len(targets)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)


def server_app(strategy: FedAvg, rounds: int) -> tuple[ServerApp, list]:
    """The ServerApp, and a list that its result is put into."""
    app, results = ServerApp(), []

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        results.append(
            strategy.start(
                grid,
                ArrayRecord({"w": Array(np.zeros(3))}),
                num_rounds=rounds,
                train_config=ConfigRecord({"lr": 0.1}),
            )
        )

    return app, results

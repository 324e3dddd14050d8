"""Runs with clients that do not keep to what was agreed. The server's side knows nothing of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

from fedsim import data
from fedsim.federated import sites
from fedsim.federated.clients import client_app
from fedsim.federated.cohorts import Cohorts
from fedsim.federated.grid import InlineGrid, run_inline
from fedsim.federated.packet import Packet
from fedsim.federated.site import Site
from fedsim.federated.strategy import MethodStrategy

from .conftest import NETWORK

#: What a client does in place of its work: it gets what it was asked, and what it would do honestly.
Act = Callable[[Message, Callable[[], Message]], Message | None]


def small(clients: int = 4) -> Site:
    """A few hundred digits dealt out; a part of them the server has as well."""
    digits = data.load("digits")
    few = replace(digits, x_train=digits.x_train[:240], y_train=digits.y_train[:240],
                  x_test=digits.x_test[:60], y_test=digits.y_test[:60])  # fmt: skip
    made = sites.dealt_site(few, {"kind": "iid"}, [NETWORK], clients=clients, seed=0)
    return Site(few, made.shares, made.networks, base=np.arange(100))


def replying(parts: Mapping[str, bytes]) -> Act:
    """An act: these parts, whatever was asked."""
    return lambda message, honest: Message(Packet(parts).content(), reply_to=message)


def raising(message: Message, honest: Callable[[], Message]) -> Message:
    """An act: to fail, with words that would change a terminal's colour."""
    raise ArithmeticError("no\nsuch \x1b[31mnumber")


def app_with(site, method, acts: Mapping[tuple[int, int], Act], kind: str = "train") -> ClientApp:
    """The ClientApp, but for acts by round and partition, in place of answers to one kind of message."""
    honest, app = client_app(lambda context: (site, method)), ClientApp()

    def answer(message: Message, context: Context) -> Message:
        where = (int(message.metadata.group_id or 0), int(context.node_config["partition-id"]))
        if message.metadata.message_type == kind and where in acts:
            return acts[where](message, lambda: honest(message, context))
        return honest(message, context)

    app.train()(answer)
    app.evaluate()(answer)
    app.query()(answer)
    app.query("keys")(answer)
    app.query("unmask")(answer)
    return app


@dataclass(frozen=True)
class Without(Cohorts):
    """Cohorts, but for clients that are not asked in a round."""

    absent: Mapping[int, frozenset[int]] = field(default_factory=dict)

    def of_round(self, number: int) -> list[int]:
        return [p for p in super().of_round(number) if p not in self.absent.get(number, ())]


def run(
    site,
    method,
    app: ClientApp | None = None,
    *,
    state=None,
    cohorts: Cohorts | None = None,
    rounds: int = 3,
    grid: type[InlineGrid] = InlineGrid,
    passages: Mapping[str, Callable] = {},
    **options,
) -> MethodStrategy:
    """A run on a grid in this process; by default everybody takes part in every round, and is honest."""
    cohorts = cohorts or Cohorts(site.clients, site.clients, site.seed)
    strategy = MethodStrategy(
        site, method, cohorts, rounds, state=state, **{"evaluate_every": 1000, **options}
    )
    server = ServerApp()
    server.main()(lambda grid, context: strategy.run(grid))
    app = app or client_app(lambda context: (site, method))
    run_inline(server, grid(app, site.clients, **passages))
    return strategy

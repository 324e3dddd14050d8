"""The two Flower apps of fedsim, by reference: ``fedsim.federated.flower:client_app``, ``:server_app``.

Processes of Flower's engines import them from here. What the run is, both read in its configuration, in
which the key ``fedsim-run`` holds a :class:`~fedsim.federated.runspec.RunSpec` as JSON. The server leaves
what comes of it in the folder that is named there.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid, ServerApp

from fedsim.errors import FederationError, FedsimError
from fedsim.federated import clients
from fedsim.federated.engines.outcome import ResultFolder
from fedsim.federated.engines.prompt import PromptGrid
from fedsim.federated.metering import Meter
from fedsim.federated.method import FederatedMethod, State
from fedsim.federated.rounds import RoundRecord
from fedsim.federated.runspec import RunSpec
from fedsim.federated.site import Site

__all__ = ["RUN", "client_app", "provide", "server_app"]

#: Key of the run's configuration.
RUN = "fedsim-run"


def provide(context: Context) -> tuple[Site, FederatedMethod]:
    """The site and the method of a run, made once in a process.

    Raises:
        FederationError: the run's configuration does not describe a run.
    """
    return _made(_text(context))


@lru_cache(maxsize=1)
def _made(text: str) -> tuple[Site, FederatedMethod]:
    spec = RunSpec.from_json(text)
    return spec.site(together=False), spec.federated_method()


def _text(context: Context) -> str:
    text = context.run_config.get(RUN)
    if not isinstance(text, str):
        raise FederationError(f"the run's configuration has no text {RUN!r}, so there is nothing to run")
    return text


class _PlainSpoken(ClientApp):
    """Replies with fedsim's own errors as they are, where engines would put a traceback around them."""

    def __call__(self, message: Message, context: Context) -> Message:
        try:
            return _app(message, context)
        except FedsimError as error:
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(error)), reply_to=message)


_app = clients.client_app(provide)
client_app = _PlainSpoken()
server_app = ServerApp()


@server_app.main()
def _serve(grid: Grid, context: Context) -> None:
    spec = RunSpec.from_json(_text(context))
    if spec.results is None:
        raise FederationError("the description of the run: results is missing, a folder for the server")
    folder = ResultFolder(Path(spec.results))
    with folder.told():
        site, method = provide(context)
        meter = Meter(RUN, spec.method, site.dimension, here=False, lost=spec.cohorts.lost)

        def round_ended(state: State, record: RoundRecord) -> None:
            folder.round_ended(state, record, meter.take())

        strategy = spec.strategy(site, method, merged=meter.merged, round_ended=round_ended)
        strategy.run(PromptGrid(grid, meter))

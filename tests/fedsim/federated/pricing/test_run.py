"""A federation on links and devices, from its scenario to its run folder."""

import io
import json
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from fedsim import runner
from fedsim.measure.ledger import read_parquet
from fedsim.measure.schema import Summary, json_schema
from fedsim.scenario import FederatedScenario

FAST = {"batch_size": 64, "learning_rate": 0.05}
SCENARIO = FederatedScenario.model_validate(
    {
        "name": "links",
        "seed": 3,
        "data": {"name": "digits", "partition": {"kind": "dirichlet", "alpha": 1.0}},
        "model": {"backbone": "digits-cnn", "backbone_arguments": {"widths": [2, 4, 4]}},
        "fleet": [
            {"count": 2, "device": "raspberry-pi-4", "link": "wifi-home"},
            {"count": 1, "device": "raspberry-pi-3b-plus", "link": "lte-2012"},
        ],
        "federation": {
            "rounds": 2,
            "methods": [
                {"name": "fedavg", "training": FAST},
                {"name": "fedproto", "label": "fedproto-5-bit", "bits": 5, "training": FAST},
            ],
        },
    }
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out, said = tmp_path_factory.mktemp("runs") / "links", io.StringIO()
    runner.run(SCENARIO, out, False, Console(file=said, width=160))
    return out, said.getvalue()


def test_figures_table_and_picture(finished: tuple[Path, str]) -> None:
    out, said = finished
    jsonschema.validate(json.loads((out / "summary.json").read_text()), json_schema())
    part = Summary.read(out / "summary.json").federation
    assert part is not None
    fedavg, fedproto = (row.cost for row in part.rows)
    assert fedavg is not None
    assert fedproto is not None
    for row, cost in zip(part.rows, (fedavg, fedproto), strict=True):
        assert [one.round for one in cost.rounds] == [1, 2]
        assert cost.straggler is not None
        assert cost.straggler.client == "device-2"  # the one whose radio sleeps, on the slow link
        frames = row.bytes.up.frame_bytes
        assert frames < cost.up_wire_bytes < 1.2 * frames + 6 * (66 + 14)
        used = cost.joules
        assert used.total == pytest.approx(used.compute + used.down + used.up + used.afterwards + used.rest)
    assert fedavg.up_wire_bytes > 10 * fedproto.up_wire_bytes
    assert fedavg.duration_s > fedproto.duration_s
    assert fedavg.joules.up > fedproto.joules.up
    assert fedproto.joules.tail > 11  # of LTE, behind the last round
    assert {(one.predictor, one.test) for one in fedproto.reached} >= {
        ("head", "global"),
        ("head", "personal"),
    }
    assert (out / "federation-cost.png").is_file()
    assert "links: rounds on their links" in said
    assert "Note: link wifi-home: up.rate 20 Mbit/s (5 to 100) is not verified" in said


def test_the_ledger_tells_it_too(finished: tuple[Path, str]) -> None:
    out, _ = finished
    rows = [
        row for row in read_parquet(out / "ledger.parquet").to_pylist() if row["provenance"] == "modelled"
    ]
    stages = {row["stage"] for row in rows}
    assert stages == {"link-down", "device-step", "link-up", "link-round"}
    part = Summary.read(out / "summary.json").federation
    for row in part.rows:
        mine = [one for one in rows if one["method"] == row.method]
        assert sum(one["wire_bytes"] for one in mine if one["stage"] == "link-up") == row.cost.up_wire_bytes
        above_rest = row.cost.joules.total - row.cost.joules.rest - row.cost.joules.afterwards
        assert sum(one["joules"] or 0.0 for one in mine) == pytest.approx(above_rest)

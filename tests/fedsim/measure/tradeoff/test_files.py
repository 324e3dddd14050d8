import csv
import json
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from fedsim.measure.tradeoff import Point, analyse, write
from fedsim.measure.tradeoff.files import as_json

from .points import point, sweep, uncut

NAMES = ["tradeoff.json", "tradeoff.csv", "tradeoff.png", "compute.png"]


def test_the_four_files(tmp_path: Path) -> None:
    tradeoff = analyse([one for one in sweep() if one.family in ("factorized", "vq", "png", "local")])
    folder = tmp_path / "sweep"
    assert write(tradeoff, folder) == [folder / name for name in NAMES]
    assert sorted(folder.iterdir()) == sorted(folder / name for name in NAMES)
    for name in NAMES[2:]:
        assert (folder / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    content = json.loads((folder / "tradeoff.json").read_text())
    assert (content["schema"], content["anchor"], content["seeds"]) == (1, "factorized", [1, 2, 3])
    assert analyse([Point(**one) for one in content["points"]]) == tradeoff
    vq, png = (
        next(one for one in content["comparisons"] if (one["family"], one["part"]) == (family, "payload"))
        for family in ("vq", "png")
    )
    (expected,) = [one for one in tradeoff.comparisons if one.family == "vq"]
    assert vq["bd_rate_percent"]["mean"] == expected.rate.mean
    assert vq["bd_rate_percent"]["by_seed"] == {str(s): v for s, v in expected.rate.by_seed.items()}
    assert png["bd_rate_percent"]["mean"] is None
    assert png["bd_rate_percent"]["reason"] == "one point, a curve takes two"

    with (folder / "tradeoff.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [one.label for one in tradeoff.labels]
    assert [float(row["payload_bytes"]) for row in rows] == [one.payload_bytes for one in tradeoff.labels]
    assert [float(row["accuracy_high"]) for row in rows] == [x.accuracy_interval[1] for x in tradeoff.labels]
    assert {row["seeds"] for row in rows} == {"3"}
    assert (rows[0]["family"], rows[0]["level"], rows[0]["front"]) == ("factorized", "", "True")


def test_what_cannot_be_written_leaves_the_old_file_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(analyse([point("vq-1", 10, 0.9)]), tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in NAMES}

    def disk_full(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", disk_full)
    with pytest.raises(OSError, match="disk full"):
        write(analyse([point("vq-1", 10, 0.9), uncut(0.95)]), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    assert {name: (tmp_path / name).read_bytes() for name in NAMES[2:]} == {n: before[n] for n in NAMES[2:]}
    assert len(json.loads((tmp_path / "tradeoff.json").read_text())["labels"]) == 2


@pytest.mark.parametrize("points", [[], [point("vq-1", 7, 1.0, head_macs=0)]])
def test_a_sweep_that_came_to_little_still_has_its_files(points: list[Point], tmp_path: Path) -> None:
    assert [path.name for path in write(analyse(points), tmp_path)] == NAMES


def test_the_page_explains_every_key() -> None:
    page = (Path(__file__).parents[4] / "docs" / "tradeoff.md").read_text(encoding="utf-8")
    content = as_json(analyse(sweep()))
    comparison = content["comparisons"][0]
    parts = (content, content["labels"][0], comparison, comparison["bd_rate_percent"])
    assert [key for part in parts for key in part if f"`{key}`" not in page] == []

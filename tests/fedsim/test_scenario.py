import copy
import difflib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedsim.errors import ScenarioError
from fedsim.scenario import Scenario, load
from fedsim.scenario_source import parse_yaml

QUICKSTART: dict[str, Any] = {
    "name": "quickstart",
    "seed": 7,
    "data": {"name": "digits"},
    "model": {
        "backbone": "digits-cnn",
        "cut": "stage2",
        "entry": "input",
        "bottleneck": {"name": "factorized", "channels": 12, "beta": 0.1},
    },
    "training": {"recipe": "entropic-student", "teacher_epochs": 30, "epochs": [20, 10], "batch_size": 64},
    "baselines": [
        "local",
        "raw-image",
        {"name": "jpeg", "quality": 50},
        "float16",
        {"name": "integer", "bits": 8},
    ],
    "fleet": [{"count": 2, "in_flight": 1, "deadline_s": 10, "fallback": False}],
    "server": {"workers": 1, "batch": {"size": 8, "wait_ms": 1}},
    "engine": "processes",
    "sweep": {"model.bottleneck.beta": [0.02, 0.08, 0.32]},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "quickstart.yaml"
    path.write_text(yaml.safe_dump(QUICKSTART))
    return path


def refused(file: Path, *overrides: str) -> str:
    """The message of the one error, which names the file on each of its lines."""
    with pytest.raises(ScenarioError) as caught:
        load(file, overrides)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert all(line.startswith(f"{file}: ") for line in message.splitlines())
    return message.replace(f"{file}: ", "")


# What is right


def test_quickstart_is_read_whole(file: Path) -> None:
    scenario = load(file)
    assert (scenario.name, scenario.seed, scenario.devices) == ("quickstart", 7, 2)
    assert scenario.model.bottleneck.options == {"channels": 12}
    assert [b.label for b in scenario.baselines] == ["local", "raw-image", "jpeg-50", "float16", "integer-8"]
    assert [b.rate for b in scenario.baselines] == [None, None, 50, None, 8]


def test_short_file_gets_defaults(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    keys = ("name", "data", "model", "fleet")
    path.write_text(yaml.safe_dump({key: QUICKSTART[key] for key in keys}))
    scenario = load(path)
    assert (scenario.seed, scenario.engine, scenario.baselines) == (0, "processes", ())
    assert scenario.training.recipe == "entropic-student"
    assert scenario.points() == [({}, scenario)]


def test_seed_and_overrides_replace_values(file: Path) -> None:
    scenario = load(
        file, ["fleet.0.count=3", "server.batch={size: 4}", "baselines=[png]", "name=other"], seed=11
    )
    assert scenario.fleet[0].count == 3
    assert (scenario.server.batch.size, scenario.server.batch.wait_ms) == (4, 1.0)
    assert [b.name for b in scenario.baselines] == ["png"]
    assert (scenario.name, scenario.seed) == ("other", 11)


def test_overrides_make_sections_that_the_file_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "short.yaml"
    path.write_text(yaml.safe_dump({key: QUICKSTART[key] for key in ("name", "data", "model", "fleet")}))
    assert load(path, ["server.batch.size=4"]).server.batch.size == 4


def test_resolved_is_json_and_comes_back_equal(file: Path) -> None:
    scenario = load(file)
    text = json.dumps(scenario.resolved())
    assert Scenario.model_validate(json.loads(text)) == scenario


def test_points_are_the_product_and_differ_in_what_is_swept_alone(file: Path) -> None:
    scenario = load(
        file, ["sweep={model.bottleneck.beta: [0.1, 0.2], model.bottleneck.channels: [4, 8, 12]}"]
    )
    points = scenario.points()
    assert [tuple(setting.values()) for setting, _ in points] == [
        (beta, channels) for beta in (0.1, 0.2) for channels in (4, 8, 12)
    ]
    for setting, point in points:
        expected = copy.deepcopy(scenario.resolved()) | {"sweep": []}
        expected["model"]["bottleneck"]["beta"] = setting["model.bottleneck.beta"]
        expected["model"]["bottleneck"]["channels"] = setting["model.bottleneck.channels"]
        assert point.resolved() == expected
        assert point.points() == [({}, point)]


def test_swept_key_need_not_stand_in_the_file(file: Path) -> None:
    document = copy.deepcopy(QUICKSTART)
    del document["model"]["bottleneck"]["beta"], document["model"]["cut"]
    document["sweep"]["model.cut"] = ["stage1", "stage2"]
    file.write_text(yaml.safe_dump(document))
    assert [point.model.cut for _, point in load(file).points()] == ["stage1", "stage2"] * 3


def test_scientific_notation_is_a_number(file: Path) -> None:
    assert load(file, ["training.teacher_learning_rate=1e-3"]).training.teacher_learning_rate == 0.001


GRIDS = [
    "{model.bottleneck: {name: factorized, channels: 4}, model.bottleneck.beta: [0.1, 0.2]}",
    "{model.bottleneck: {name: integer}, model.bottleneck.bits: [4, 8], model.entry: stage2}",
]


def test_grids_stand_one_behind_the_other(file: Path) -> None:
    scenario = load(file, [f"sweep=[{', '.join(GRIDS)}]"])
    points = [point for _, point in scenario.points()]
    assert [
        label for label, _ in scenario.labels() if label not in {b.label for b in scenario.baselines}
    ] == [
        "factorized-beta0.1",
        "factorized-beta0.2",
        "integer-bits4",
        "integer-bits8",
    ]
    assert [p.model.bottleneck.options for p in points] == [
        {"channels": 4},
        {"channels": 4},
        {"bits": 4},
        {"bits": 8},
    ]
    assert [p.model.bottleneck.beta for p in points] == [0.1, 0.2, None, None]
    assert [p.model.entry for p in points] == ["input", "input", "stage2", "stage2"]
    assert Scenario.model_validate(scenario.resolved()).points() == scenario.points()


def test_section_is_set_ahead_of_the_keys_in_it_wherever_it_stands(file: Path) -> None:
    (point,) = load(
        file,
        ["sweep=[{model.bottleneck.beta: 0.3, model.bottleneck: {name: factorized, beta: 9}}]"],
    ).points()
    assert point[0] == {}
    assert point[1].model.bottleneck.beta == 0.3


def test_first_grid_fills_in_what_the_file_leaves_out(file: Path) -> None:
    document = copy.deepcopy(QUICKSTART)
    del document["model"]["bottleneck"]
    document["sweep"] = [parse_yaml(grid) for grid in GRIDS]
    file.write_text(yaml.safe_dump(document))
    scenario = load(file)
    assert scenario.model.bottleneck.name == "factorized"
    assert len(scenario.points()) == 4


def test_points_that_would_be_called_the_same_are_told_apart(file: Path) -> None:
    cuts = [f"{{model.cut: {cut}, model.bottleneck.beta: [0.1, 0.2]}}" for cut in ("stage1", "stage2")]
    labels = [label for label, key in load(file, [f"sweep=[{', '.join(cuts)}]"]).labels() if key == "sweep"]
    assert labels == [f"factorized-beta{beta}-cutstage{cut}" for cut in (1, 2) for beta in (0.1, 0.2)]
    sections = "{model.bottleneck: [{name: integer, bits: 4}, {name: integer, bits: 8}, {name: float16}]}"
    scenario = load(file, [f"sweep=[{sections}]", "model.entry=null", "baselines=[]"])
    assert [label for label, _ in scenario.labels()] == ["integer-bits4", "integer-bits8", "float16"]


@pytest.mark.parametrize("said", [{}, {"epochs": [], "learning_rates": []}])
def test_what_is_not_said_of_the_stages_is_the_recipes_own(said: dict[str, Any], file: Path) -> None:
    from fedsim.training import recipes

    for name in recipes.available():
        document = copy.deepcopy(QUICKSTART) | {"training": {"recipe": name, **said}, "sweep": {}}
        file.write_text(yaml.safe_dump(document))
        training, recipe = load(file).training, recipes.find(name)
        assert (training.epochs, training.learning_rates) == (recipe.epochs, recipe.learning_rates)
        assert len(recipe.stages) == len(recipe.epochs) == len(recipe.learning_rates)
    swept = load(file, ["sweep={training.recipe: [end-to-end, entropic-student]}"])
    assert [point.training.epochs for _, point in swept.points()] == [(30,), (20, 10)]
    file.write_text(yaml.safe_dump(swept.resolved()))
    assert load(file).points() == swept.points()


def test_a_new_recipe_is_known_in_one_place_only(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    from fedsim.training import recipes

    new = recipes.Recipe("three-stages", ("a", "b", "c"), (3, 2, 1), (0.1, 0.2, 0.3), lambda _: [])
    monkeypatch.setitem(recipes._RECIPES, new.name, new)
    training = load(file, ["training={recipe: three-stages}"]).training
    assert (training.epochs, training.learning_rates) == (new.epochs, new.learning_rates)


# What is wrong: key, value and what is allowed stand in one message


@pytest.mark.parametrize(
    ("override", "place", "allowed"),
    [
        (
            "modle={}",
            "modle = {}",
            "did you mean 'model'? the keys here are name, seed, seeds, data, model, training",
        ),
        (
            "model.bottelneck=3",
            "model.bottelneck = 3",
            "did you mean 'bottleneck'? the keys here are backbone",
        ),
        (
            "fleet.0.cuont=2",
            "fleet.0.cuont = 2",
            "did you mean 'count'? the keys here are count, device, link, radio",
        ),
        ("link=lte-2021", 'link = "lte-2021"', "unknown key; the keys here are name, seed, seeds, data"),
        ("data.name=digit", 'data.name = "digit"', "did you mean 'digits'? known are cifar10, digits, fash"),
        ("engine=ray", 'engine = "ray"', "unknown engine; known are processes, inprocess"),
        ("training.recipe=gan", 'training.recipe = "gan"', "unknown recipe; known are entropic-student"),
        (
            "model.backbone=digit-cnn",
            'model.backbone = "digit-cnn"',
            "did you mean 'digits-cnn'? known are digits",
        ),
        ("model.backbone=no.where:net", 'model.backbone = "no.where:net"', "cannot be imported"),
        (
            "model.backbone_arguments.klasses=3",
            "model.backbone_arguments.klasses = 3",
            "its arguments are classes",
        ),
        ("model.backbone_arguments.classes=7", '"classes": 7', "needs logits for 10 classes"),
        ("data.validation=1", "data.validation = 1", "a number, more than 0 and less than 1"),
        ("data.validation=0", "data.validation = 0", "a number, more than 0"),
        ("data.name=cifar10", '"digits-cnn"', "does not take the images [3, 32, 32] of the data set"),
        ("model.cut=stage5", 'model.cut = "stage5"', "stage1, stage2.conv1"),
        ("model.entry=stage5", 'model.entry = "stage5"', "stage1, stage2.conv1"),
        ("model.entry=stage3", 'model.entry = "stage3"', "does not lie ahead of the cut at 'stage2'"),
        ("model.cut=7", "model.cut = 7", "has to be text"),
        (
            "model.bottleneck.name=factorised",
            '= "factorised"',
            "did you mean 'factorized'? known are ",
        ),
        ("model.bottleneck.name=a.b:C", 'model.bottleneck.name = "a.b:C"', "cannot be imported"),
        (
            "model.bottleneck.name=pathlib:Path",
            '= "pathlib:Path"',
            "not a subclass of edge.bottlenecks.Bottleneck",
        ),
        (
            "model.bottleneck.chanels=3",
            "model.bottleneck.chanels = 3",
            "did you mean 'channels'? the keys here are",
        ),
        ("model.bottleneck.channels=many", 'channels = "many"', "has to be a whole number"),
        (
            "model.bottleneck.decoder_channels=[1, x]",
            "decoder_channels = ",
            "a list of entries, each a whole number",
        ),
        (
            "sweep.model.bottleneck.beta=[-1, 2]",
            "model.bottleneck.beta = -1 (in the sweep)",
            "a number, at least 0",
        ),
        (
            "sweep.model.bottleneck.beta=[2, -1]",
            "model.bottleneck.beta = -1 (in the sweep)",
            "a number, at least 0",
        ),
        ("sweep.model.cut=[stage1, stage9]", 'model.cut = "stage9" (in the sweep)', "stage1, stage2.conv1"),
        ("sweep.model.botleneck.beta=[1]", "model.botleneck", "did you mean 'bottleneck'?"),
        ("sweep.seed=[1, 2]", "sweep.seed = 1", "allowed are keys that begin with model. or training."),
        (
            "sweep.model.bottleneck.beta=[]",
            "sweep.model.bottleneck.beta = []",
            "a list of at least 1 entries",
        ),
        ("sweep.model.bottleneck.beta=[1, 1]", 'sweep = {"model.bottleneck.beta": 1}', "may stand once"),
        ("sweep=3", "sweep = 3", "has to be a mapping"),
        ("sweep=[3]", "sweep.0 = 3", "has to be a mapping"),
        (f"sweep=[{GRIDS[0]}, {GRIDS[0]}]", "sweep = ", "may stand once"),
        (
            f"sweep=[{GRIDS[0]}, {{model.bottleneck: {{name: int}}}}]",
            'model.bottleneck.name = "int" (in grid 1 of the sweep)',
            "did you mean 'integer'?",
        ),
        (
            f"sweep=[{GRIDS[0]}, {{model.bottleneck: {{name: factorized}}}}]",
            "model.bottleneck.beta (in grid 1 of the sweep)",
            "is missing; a learned bottleneck needs a number",
        ),
        (
            f"sweep=[{GRIDS[0]}, {{model.bottleneck: {{name: no.where:Mine}}}}]",
            'model.bottleneck.name = "no.where:Mine" (in grid 1 of the sweep)',
            "cannot be imported",
        ),
        (
            f"sweep=[{GRIDS[0]}, {{training.epochs: [[1, 0]]}}]",
            "training.epochs.1 = 0 (in grid 1 of the sweep)",
            "a whole number, at least 1",
        ),
        (f"sweep=[{GRIDS[0]}, {{seed: [1, 2]}}]", "sweep.1.seed = 1", "keys that begin with model. or"),
        (f"sweep=[{GRIDS[0]}, {{model.cut: []}}]", "sweep.1.model.cut = []", "a list of at least 1 entries"),
        ("seeds=[1, 1]", "seeds = 1", "may stand once"),
        ("seeds=[0.5]", "seeds.0 = 0.5", "a whole number, at least 0"),
        ("tasks=[colour]", 'tasks.0 = "colour"', "known are parity, ink"),
        ("model.levels=[0, 1]", "model.levels = [0, 1]", "the bottleneck 'factorized' has one level, 0"),
        ("model.levels=[]", "model.levels = []", "a list of at least 1 entries, each a whole number"),
        ("fleet.0.erasure=1.5", "fleet.0.erasure = 1.5", "a number, at least 0 and at most 1"),
        ("training.device=tpu", 'training.device = "tpu"', "has to be one of auto, cpu, cuda"),
        ("training.threads=0", "training.threads = 0", "a whole number, at least 1"),
        ("training.precision=int8", 'training.precision = "int8"', "one of auto, float32, bf16"),
        (
            "model.bottleneck.beta=1",
            "model.bottleneck.beta = 1",
            "set sweep.model.bottleneck.beta, or sweep=null",
        ),
        ("baselines.0=jpg", 'baselines.0.name = "jpg"', "did you mean 'jpeg'? known are local, float16"),
        (
            "baselines.0=factorized",
            'baselines.0.name = "factorized"',
            "has to be trained; baselines are local, fl",
        ),
        ("baselines.2.quality=-5", "baselines.2.quality = -5", "allowed are whole numbers of 1 to 95"),
        ("baselines.2.qualty=5", "baselines.2.qualty = 5", "the keys here are name, quality"),
        ("baselines.0={name: local, bits: 8}", 'baselines.0 = {"bits": 8}', "has no options; leave them out"),
        (
            "fleet.0.count=65",
            'fleet = [{"count": 65}]',
            "has 65 devices; the engine 'processes' takes at most 64",
        ),
        ("baselines=[png, png]", 'baselines = "png"', "may stand once"),
        ("fleet.0.count=-2", "fleet.0.count = -2", "a whole number, at least 1 and at most 1000"),
        ("fleet.0.count=true", "fleet.0.count = true", "a whole number, at least 1 and at most 1000"),
        ("fleet.0.count=two", 'fleet.0.count = "two"', "a whole number, at least 1 and at most 1000"),
        ("fleet.0.deadline_s=0", "fleet.0.deadline_s = 0", "a number, more than 0"),
        ("fleet.0.deadline_s=.inf", "fleet.0.deadline_s = Infinity", "a number, more than 0"),
        ("fleet.0.fallback=3", "fleet.0.fallback = 3", "true or false"),
        ("fleet=[]", "fleet = []", "a list of at least 1 entries, each a mapping with the keys count"),
        ("fleet.3.count=1", "--set", "fleet is a list and has no entry '3'; its entries are 0 to 0"),
        ("server.batch.wait_ms=-1", "server.batch.wait_ms = -1", "a number, at least 0"),
        ("server.workers=0", "server.workers = 0", "a whole number, at least 1"),
        (
            "training.epochs=[1, 2, 3]",
            "training.epochs = [1, 2, 3]",
            "the recipe 'entropic-student' needs 2 entries: ",
        ),
        ("training.learning_rates=[0.1, -1]", "training.learning_rates.1 = -1", "a number, more than 0"),
        ("training=3", "training = 3", "a mapping with the keys recipe, teacher_epochs"),
        ("name=Quick Start", 'name = "Quick Start"', "text, matching ^[a-z0-9-]+$"),
        ("seed=-1", "seed = -1", "a whole number, at least 0"),
        ("seed", "--set", "'seed' is not of the form key=value"),
        ("seed=[1", "--set", "not valid YAML"),
    ],
)
def test_wrong_value_names_key_value_and_what_is_allowed(
    file: Path, override: str, place: str, allowed: str
) -> None:
    message = refused(file, override)
    assert place in message
    assert allowed in message
    assert len(message.splitlines()) == 1


def test_negative_rate_in_the_file(file: Path) -> None:
    document = copy.deepcopy(QUICKSTART)
    document["model"]["bottleneck"]["beta"] = -0.1
    document["sweep"] = {}
    file.write_text(yaml.safe_dump(document))
    assert refused(file) == "model.bottleneck.beta = -0.1: has to be a number, at least 0"


def test_learned_bottleneck_needs_a_rate_weight_and_no_other_has_one(file: Path) -> None:
    assert "beta (by --set): is missing; a learned bottleneck needs a number, at least 0" in refused(
        file, "sweep=null", "model.bottleneck={name: factorized}"
    )
    message = refused(file, "sweep=null", "model.bottleneck={name: float16, beta: 0.1}", "model.entry=null")
    assert message.startswith("model.bottleneck.beta = 0.1")
    assert "leave the key out" in message


def test_misspelt_option_is_reported_beside_a_missing_rate_weight(file: Path) -> None:
    message = refused(file, "sweep=null", "model.bottleneck={name: factorized, chanels: 12}")
    option, weight = message.splitlines()
    assert option.startswith(
        "model.bottleneck.chanels = 12 (by --set): unknown key; did you mean 'channels'?"
    )
    assert weight.startswith("model.bottleneck.beta (by --set): is missing")
    message = refused(file, "sweep=null", "model.bottleneck={name: factorized, bta: 12}")
    assert message.startswith("model.bottleneck.bta = 12 (by --set): unknown key; did you mean 'beta'?")
    assert len(message.splitlines()) == 1


def test_every_row_has_a_name_of_its_own(file: Path) -> None:
    plain = ["sweep=null", "model.entry=null", "model.bottleneck={name: float16}"]
    assert refused(file, *plain, "baselines=[local, float16]") == (
        'model.bottleneck = "float16" (by --set): gives a row the name that baselines.1 gives to another; '
        "names have to differ"
    )
    assert refused(file, *plain, "sweep={model.backbone_arguments.mean: [[0.5], [-0.5]]}") == (
        'sweep = "float16-mean-0.5" (by --set): gives a row the name that sweep gives to another; '
        "names have to differ"
    )
    integers = [
        "model.entry=null",
        "model.bottleneck={name: integer}",
        "baselines=[{name: integer, bits: 8}]",
    ]
    assert load(file, [*integers, "sweep={model.bottleneck.bits: [4, 8]}"]).labels() == [
        ("integer-8", "baselines.0"),
        ("integer-bits4", "sweep"),
        ("integer-bits8", "sweep"),
    ]


def test_the_fleet_is_bounded_by_the_test_set(file: Path) -> None:
    from fedsim.scenario_checks import fleet_problem

    scenario = load(file, ["fleet=[{count: 30}, {count: 34}]"])
    assert fleet_problem(scenario, 64) is None
    problem = fleet_problem(scenario, 63)
    assert str(problem) == (
        'fleet = [{"count": 30}, {"count": 34}]: has 64 devices; each needs a sample of its own, '
        "and the test set of 'digits' has 63"
    )


def test_image_codec_needs_a_cut_at_the_input(file: Path) -> None:
    overrides = ["sweep=null", "model.bottleneck={name: png}", "model.entry=null"]
    assert 'model.cut = "stage2"' in refused(file, *overrides)
    assert load(file, [*overrides, "model.cut=input"]).model.cut == "input"


def test_everything_wrong_is_reported_at_once(file: Path) -> None:
    message = refused(file, "fleet.0.count=0", "data.name=mnist", "server.works=1")
    assert [line.partition(" ")[0] for line in message.splitlines()] == [
        "data.name",
        "fleet.0.count",
        "server.works",
    ]


def test_missing_key_is_named_unless_it_is_misspelt(file: Path) -> None:
    document = copy.deepcopy(QUICKSTART)
    del document["fleet"]
    file.write_text(yaml.safe_dump(document))
    assert refused(file).startswith("fleet: is missing; has to be a list of at least 1 entries")
    document["fleeet"] = QUICKSTART["fleet"]
    file.write_text(yaml.safe_dump(document))
    assert refused(file).startswith("fleeet = [")


def test_negative_seed_of_the_command_line(file: Path) -> None:
    with pytest.raises(ScenarioError, match=r"seed = -3 \(by --seed\): has to be a whole number, at least 0"):
        load(file, seed=-3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\nseed: 1\nname: b\n", "line 3: the key 'name' stands there twice"),
        ("data: {name: digits, name: cifar10}\n", "line 1: the key 'name' stands there twice"),
        ("name: [a\nseed: 1\n", "line 2: not valid YAML"),
        ("name:\tx\n\tseed: 1\n", "not valid YAML"),
        ("{1: 2}\n", "line 1: the key 1 is not text"),
        ("on: 2\n", "line 1: the key True is not text"),
        ("a: &a [*a]\n", "a value of no plain kind"),
        ("a: !!python/object:os.system {}\n", "not valid YAML: could not determine a constructor"),
        ("a: !!set {b}\n", "a value of no plain kind"),
        ("- name\n", "is a list; a scenario is a mapping"),
        ("", "is empty; a scenario is a mapping"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a: \x00\n", "not valid YAML"),
        ('a: "\\ud800"\n', "a value of no plain kind"),
        ("[" * 600, "nested too deeply"),
    ],
)
def test_text_that_is_no_scenario(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    message = refused(file)
    assert said in message
    assert len(message.splitlines()) == 1


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent.yaml")
    assert "Is a directory" in refused(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    assert "not UTF-8" in refused(tmp_path / "latin.yaml")


KEYS = list(QUICKSTART)
ALL_KEYS = list(Scenario.model_fields)


@settings(max_examples=40)
@given(st.sampled_from(KEYS), st.data())
def test_any_misspelt_key_is_named_with_its_closest_match(key: str, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(key) - 1))
    letter = data.draw(st.characters(codec="ascii", categories=["Ll"]))
    misspelt = data.draw(
        st.sampled_from(
            [key[:position] + letter + key[position:], key[:position] + letter + key[position + 1 :]]
        )
    )
    assume(misspelt not in ALL_KEYS)
    document = {misspelt if k == key else k: v for k, v in QUICKSTART.items()}
    from pydantic import ValidationError

    from fedsim.scenario_problems import problems_of

    with pytest.raises(ValidationError) as caught:
        Scenario.model_validate(document)
    problems = problems_of(caught.value, Scenario)
    strange = [str(p) for p in problems if p.key == misspelt]
    assert len(strange) == 1
    assert strange[0].endswith(f"the keys here are {', '.join(ALL_KEYS)}")
    if difflib.SequenceMatcher(None, key, misspelt).ratio() > 0.75:
        assert f"did you mean {key!r}?" in strange[0]
        assert not [p for p in problems if p.key == key]

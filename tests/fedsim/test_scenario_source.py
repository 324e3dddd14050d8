"""Scenario text and the values of ``--set``, before anything is known of their meaning."""

import contextlib
import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.scenario_source import SourceError, lookup, parse_override, parse_yaml, with_value

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=3)
    ),
    max_leaves=8,
)
WORD = st.text("abcdefgh_-", min_size=1, max_size=6)
PATH = st.lists(WORD, min_size=1, max_size=4).filter(lambda words: words[0] != "sweep").map(".".join)


@settings(max_examples=40)
@given(PATH, PLAIN)
def test_override_is_read_as_it_was_written(key: str, value: Any) -> None:
    assert parse_override(f"{key}={yaml.safe_dump(value, allow_unicode=True)}") == (key, value)
    assert parse_override(f"{key}={json.dumps(value, ensure_ascii=False)}") == (key, value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_a_number_however_python_writes_it(value: float) -> None:
    for text in (repr(value), f"{value:e}", f"{value:E}"):
        read = parse_yaml(text)
        assert isinstance(read, int | float)
        assert read == float(text)


@given(st.text(max_size=40))
def test_any_override_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(SourceError):
        key, value = parse_override(text)
        assert all(key.split("."))
        json.dumps(value)


@given(st.text(max_size=60))
def test_any_text_is_yaml_or_refused(text: str) -> None:
    with contextlib.suppress(SourceError):
        json.dumps(parse_yaml(text))


DOCUMENT = st.dictionaries(WORD.filter(lambda word: word != "sweep"), PLAIN, max_size=4)


@given(DOCUMENT, PATH, PLAIN.filter(lambda value: value is not None))
def test_value_that_was_set_is_found_and_the_document_is_left_alone(
    document: dict[str, Any], key: str, value: Any
) -> None:
    before = copy.deepcopy(document)
    try:
        changed = with_value(document, key, value)
    except SourceError:
        assert lookup(document, key) is None
    else:
        assert lookup(changed, key) == value
        others = set(document) - {key.partition(".")[0]}
        assert all(changed[other] == document[other] for other in others)
    assert document == before


def test_list_entry_is_set_by_its_number() -> None:
    document = {"fleet": [{"count": 1}, {"count": 2}]}
    assert with_value(document, "fleet.1.count", 5) == {"fleet": [{"count": 1}, {"count": 5}]}
    for entry in ("2", "-1", "x", "²"):
        with pytest.raises(SourceError, match="its entries are 0 to 1"):
            with_value(document, f"fleet.{entry}.count", 5)


def test_value_shared_by_an_alias_changes_in_one_place() -> None:
    document = parse_yaml("a: &x {n: 1}\nb: *x\n")
    assert with_value(document, "a.n", 2) == {"a": {"n": 2}, "b": {"n": 1}}

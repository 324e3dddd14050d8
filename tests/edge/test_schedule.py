"""Schedules as files: what is read is what was written, and what cannot be kept is named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from edge.schedule import Schedule, ScheduleError

seconds = st.lists(st.floats(0, 1e9), max_size=20)


@settings(max_examples=25)
@given(seconds, st.booleans())
def test_a_file_keeps_a_schedule_exactly(tmp_path_factory, values, paused):
    path = tmp_path_factory.getbasetemp() / "schedule.safetensors"
    kept = np.array(values if paused else sorted(values))
    Schedule(kept, paused).write(path)
    found = Schedule.read(path)
    assert found.paused == paused
    assert found.seconds.dtype == np.float64
    assert found.seconds.tobytes() == kept.tobytes()


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"at_s": np.zeros(2), "pause_s": np.zeros(2)}, "expected one of 'at_s' and 'pause_s'"),
        ({"times": np.zeros(2)}, "has ['times'], expected one of 'at_s' and 'pause_s'"),
        ({"at_s": np.zeros(2, np.float32)}, "'at_s' is float32[2], expected float64 [N]"),
        ({"pause_s": np.zeros((2, 1))}, "'pause_s' is float64[2, 1], expected float64 [N]"),
        ({"at_s": np.array([0.0, 2.0, 1.5])}, "at_s[2] is 1.5, before the 2 ahead of it"),
        ({"at_s": np.array([0.0, np.inf])}, "at_s[1] is inf, expected a finite number, 0 or more"),
        ({"pause_s": np.array([-1.0])}, "pause_s[0] is -1, expected a finite number, 0 or more"),
        ({"pause_s": np.array([0.0, np.nan])}, "pause_s[1] is nan"),
    ],
)
def test_what_is_no_schedule_is_named(tmp_path, tensors, said):
    path = tmp_path / "odd.safetensors"
    save_file(tensors, path)
    with pytest.raises(ScheduleError) as caught:
        Schedule.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


def test_a_file_that_is_none_is_named(tmp_path):
    for content in (None, b"text"):
        path = tmp_path / "odd"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ScheduleError, match="odd: not a readable safetensors file"):
            Schedule.read(path)

"""The channel against the event loop, and against the recursion as it is written down."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim.simulator.fleet import Cell, Device, Server, Work, simulate
from fedsim.simulator.lowpower.channel import waits

seeds = st.integers(0, 2**32 - 1)


def drawn(seed, paused, count=30):
    generator = np.random.default_rng(seed)
    at = generator.exponential(1.0, count) * (generator.random(count) < 0.8)  # some at once
    compute, held, answered = generator.exponential([[0.3], [1.0], [1.5]], (3, count))
    return (at if paused else np.cumsum(at)), compute, held, answered


@settings(deadline=None, max_examples=60)
@given(seeds)
def test_one_behind_the_other(seed):
    """Samples that are due at times, and wait for no answer."""
    at, compute, held, answered = drawn(seed, False)
    found = waits(at, False, compute, held, answered, len(at), np.inf)
    ready = begin = 0.0
    for sample in range(len(at)):
        ready = max(ready, at[sample]) + compute[sample]
        allowed = begin + held[sample - 1] if sample else 0.0
        begin = max(ready, allowed)
        assert found[sample] == begin - ready


@settings(deadline=None, max_examples=60)
@given(seeds, st.booleans(), st.integers(1, 5))
def test_it_foresees_what_the_event_loop_does(seed, paused, in_flight):
    """In the loop, with these waits, payloads begin as soon as they are ready and may, and no earlier."""
    at, compute, held, answered = drawn(seed, paused)
    found = waits(at, paused, compute, held, answered, in_flight, np.inf)
    work = Work(at, paused, compute, up_delay_s=found + answered)
    outcome = simulate([Cell()], Server(workers=len(at)), [Device(work, 0, 0, in_flight)])
    ready = outcome.at("computed")
    begin = ready + found
    allowed = np.concatenate([[-np.inf], (begin + held)[:-1]])
    np.testing.assert_allclose(begin, np.maximum(ready, allowed), rtol=1e-12)


def test_a_closed_loop_waits_for_its_answer_and_for_the_channel():
    each = np.ones(3)
    # Ready at 3 s; the next at 3 + 5 (answer) + 2 + 1 s, with a channel that is held until 3 + 9 s.
    found = waits(2 * each, True, each, 9 * each, 5 * each, 1, np.inf)
    assert found.tolist() == [0.0, 1.0, 1.0]

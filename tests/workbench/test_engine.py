"""Work on the model: on one thread, a step at a time, from whatever thread it is asked for."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from explorer.workbench.engine import Engine


def test_every_step_runs_on_the_one_thread_also_from_within_another_step() -> None:
    engine = Engine()
    owner = engine.step(threading.current_thread)
    assert owner is not threading.current_thread()
    assert engine.step(lambda: engine.step(threading.current_thread)) is owner
    with ThreadPoolExecutor(4) as pool:
        assert {*pool.map(lambda _: engine.step(threading.current_thread), range(8))} == {owner}


def test_steps_of_two_callers_take_turns() -> None:
    engine, seen = Engine(), list[str]()

    def work(name: str) -> None:
        for _ in engine.steps(iter(range(1, 4))):
            seen.append(name)

    list(map(work, "ab"))
    assert seen == ["a"] * 3 + ["b"] * 3
    one, two = engine.steps(iter("abc")), engine.steps(iter("xyz"))
    assert [next(one), next(two), next(one), next(two)] == ["a", "x", "b", "y"]


def test_a_fault_reaches_who_asked_and_the_next_step_works() -> None:
    engine = Engine()
    with pytest.raises(ZeroDivisionError):
        engine.step(lambda: 1 // 0)
    assert engine.step(lambda: 1) == 1

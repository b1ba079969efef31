"""Engines by themselves: who is asked, what an answer is, and what becomes of a task whose worker dies."""

import os
import pickle
import signal
import sys

import pytest

from occkit.engine import LocalEngine, RayEngine, Stage, choose_engine, run_all
from occkit.errors import ConfigError, DataError, OcckitError


def squares():
    """Worker that answers with the square, who it is, and how often it was asked."""
    asked = []

    def work(task):
        if task == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "complain":
            raise DataError("a file", "is wrong", "repair it")
        if task == "break":
            raise KeyError("a fault of ours")
        asked.append(task)
        return task * task, os.getpid(), len(asked)

    return work


def crew_of(engine, *, stateful=True):
    return engine.open([Stage(name="s", build=squares, stateful=stateful)])


def test_here_tasks_are_done_in_order_and_no_heap_is_built():
    handed = []

    def tasks():
        for number in range(4):
            handed.append(number)
            yield str(number), number

    with crew_of(LocalEngine()) as crew:
        found = []
        for outcome in run_all(crew, "s", tasks()):
            found.append((outcome.key, outcome.value[0], outcome.value[2]))
            assert len(handed) <= len(found) + 1
        assert found == [("0", 0, 1), ("1", 1, 2), ("2", 4, 3), ("3", 9, 4)]
        with pytest.raises(RuntimeError, match="no task"):
            crew.next()
        crew.submit("s", "bad", "complain")
        with pytest.raises(DataError, match="a file: is wrong"):
            crew.next()


def test_what_cannot_be_is_named(monkeypatch):
    with pytest.raises(ConfigError, match="workers and tries"):
        RayEngine(workers=0)
    with pytest.raises(ConfigError, match="go with --engine ray"):
        choose_engine("local", workers=2)
    assert choose_engine("ray", workers=2, address="auto") == RayEngine(workers=2, address="auto")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install occkit\[ray\]"), crew_of(RayEngine()):
        pass


def test_an_error_keeps_its_parts_on_its_way_from_a_worker():
    error = pickle.loads(pickle.dumps(DataError("a file", "is wrong", "repair it")))
    assert (error.path, error.problem, error.remedy, str(error)) == (
        "a file", "is wrong", "repair it", "a file: is wrong -- repair it",
    )  # fmt: skip


def test_workers_stay_and_no_more_run_than_there_are(cluster):
    with crew_of(RayEngine(workers=2)) as crew:
        assert crew.has_room("s")
        crew.submit("s", "a", 2)
        crew.submit("s", "b", 3)
        assert not crew.has_room("s")
        found = {outcome.key: outcome.value for outcome in (crew.next(), crew.next())}
        assert {key: value[0] for key, value in found.items()} == {"a": 4, "b": 9}
        values = [outcome.value for outcome in run_all(crew, "s", ((str(n), n) for n in range(6)))]
        assert sorted(value[0] for value in values) == [0, 1, 4, 9, 16, 25]
        assert {value[1] for value in values} == {value[1] for value in found.values()}, "the same two processes"
        assert max(value[2] for value in values) > 1, "a worker is built once"
    with crew_of(RayEngine(), stateful=False) as crew:
        assert [outcome.value[0] for outcome in run_all(crew, "s", [("x", 5)])] == [25]


@pytest.mark.parametrize("stateful", [True, False])
def test_a_task_that_kills_its_workers_is_lost_and_the_others_are_not(cluster, stateful):
    with crew_of(RayEngine(workers=1, tries=2), stateful=stateful) as crew:
        tasks = [("one", 1), ("bomb", "die"), ("two", 2)]
        found = {outcome.key: outcome for outcome in run_all(crew, "s", tasks)}
    assert {key: outcome.value and outcome.value[0] for key, outcome in found.items()} == {
        "one": 1, "bomb": None, "two": 4,
    }  # fmt: skip
    assert found["bomb"].lost.startswith("its worker died 2 times")
    assert found["one"].lost is None


def test_workers_that_always_die_end_the_run(cluster):
    with (
        crew_of(RayEngine(workers=1, tries=1)) as crew,
        pytest.raises(OcckitError, match="die whatever they are given, 6 in a row"),
    ):
        list(run_all(crew, "s", ((str(n), "die") for n in range(100))))


def test_errors_of_the_work_are_those_of_the_caller(cluster):
    with crew_of(RayEngine(workers=1)) as crew:
        crew.submit("s", "bad", "complain")
        with pytest.raises(DataError, match="a file: is wrong -- repair it") as caught:
            crew.next()
        assert caught.value.remedy == "repair it"
        crew.submit("s", "broken", "break")
        with pytest.raises(KeyError):
            crew.next()


def test_an_address_where_nobody_answers_is_named():
    ray = pytest.importorskip("ray")
    if ray.is_initialized():
        pytest.skip("this process is in a cluster already")
    with (
        pytest.raises(ConfigError, match=r"no cluster at 127\.0\.0\.1:1 .*ray start"),
        crew_of(RayEngine(address="127.0.0.1:1")),
    ):
        pass

"""The label factory on a Ray cluster: the bytes of a run in one process, whatever happens on the way."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from faulty_models import Faulty
from occkit.data import DataConfig, open_dataset
from occkit.data.occ3d import label_path
from occkit.engine import LocalEngine, RayEngine
from occkit.errors import DataError
from occkit.foundation import SimulatedDepthConfig
from occkit.labels import FactoryConfig, FusionConfig, LonelyPoints, make_labels
from occkit.world.generate import generate
from occkit.world.presets import PRESETS

CONFIG = FactoryConfig(stride=4, outliers=LonelyPoints(cell=1.0, least=2), fusion=FusionConfig(history=2))
ONE = RayEngine(workers=1)
TWO = RayEngine(workers=2)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    generate(replace(PRESETS["nano"], frames=3), root, num_scenes=2, seed=5)
    return root


@pytest.fixture(scope="module")
def frames(world):
    return open_dataset(world, split="all", config=DataConfig(load_depth=False))


def make(frames, folder, engine, **fault):
    depth = SimulatedDepthConfig.perfect(frames.root).build
    labeller = Faulty(frames.root, **fault)
    return make_labels(
        frames, folder, depth=depth, labeller=labeller, config=CONFIG, keep_images=True, engine=engine, progress=False
    )


def digest(folder):
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def undisturbed(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    assert make(frames, folder, LocalEngine()).written == 6
    found = digest(folder)
    assert len(found) == 6 + 36 + 1, "labels, images, labels.json; no points and no partial files"
    return found


@pytest.mark.parametrize("engine", [ONE, TWO])
def test_any_number_of_workers_writes_the_bytes_of_one_process(cluster, frames, undisturbed, tmp_path, engine):
    made = make(frames, tmp_path, engine)
    assert (made.written, made.kept, dict(made.skipped)) == (6, 0, {})
    assert digest(tmp_path) == undisturbed


def test_a_worker_that_is_killed_at_work_leaves_no_trace(cluster, frames, undisturbed, tmp_path):
    marker = tmp_path / "died"
    made = make(frames, tmp_path / "out", TWO, fault="die_once", token=frames.tokens[2], marker=marker)
    assert marker.exists()
    assert (made.written, dict(made.skipped)) == (6, {})
    assert digest(tmp_path / "out") == undisturbed


def test_a_frame_that_kills_every_worker_is_named_and_the_rest_goes_on(cluster, frames, undisturbed, tmp_path):
    made = make(frames, tmp_path, RayEngine(workers=2, tries=2), fault="die", token=frames.tokens[1])
    assert made.written == 5
    assert list(made.skipped) == [frames.tokens[1]]
    assert "its worker died 2 times" in json.loads((tmp_path / "skipped.json").read_text())[frames.tokens[1]]
    # The frame after it went without its points, and its label says so: it is made again, too.
    again = make(frames, tmp_path, LocalEngine())
    assert (again.written, again.changed) == (2, (frames.tokens[2],))
    assert digest(tmp_path) == undisturbed


def test_an_unreadable_image_costs_the_same_frames_with_the_same_reason(cluster, world, tmp_path):
    root = tmp_path / "world"
    shutil.copytree(world, root)
    frames = open_dataset(root, split="all", config=DataConfig(load_depth=False))
    frames._frame(frames.tokens[1]).views[0][0].path.write_bytes(b"no image")
    here, there = make(frames, tmp_path / "here", LocalEngine()), make(frames, tmp_path / "there", TWO)
    assert list(here.skipped) == [frames.tokens[1]]
    assert (here.written, dict(here.skipped)) == (there.written, dict(there.skipped))
    assert digest(tmp_path / "here") == digest(tmp_path / "there")


@pytest.mark.parametrize("engine", [LocalEngine(), TWO])
def test_a_full_disk_ends_the_run_and_the_next_call_goes_on(request, frames, undisturbed, tmp_path, engine):
    if engine is TWO:
        request.getfixturevalue("cluster")
    with pytest.raises(DataError, match="No space left on device"):
        make(frames, tmp_path, engine, fault="full", token=frames.tokens[3])
    left = digest(tmp_path)
    assert not [name for name in left if name.endswith(".partial")]
    whole = {name: found for name, found in left.items() if not name.startswith(".points")}
    assert whole.items() <= undisturbed.items(), "what is there is whole"
    assert make(frames, tmp_path, LocalEngine()).kept == len(list_labels(left))
    assert digest(tmp_path) == undisturbed


def list_labels(files):
    return [name for name in files if name.endswith("labels.npz") and not name.startswith(".points")]


def test_a_write_that_fails_leaves_nothing(frames, undisturbed, tmp_path, monkeypatch):
    """Half the bytes of a label reach the disk, then it is full."""
    plain = Path.write_bytes
    broken = label_path(tmp_path, frames.scene(frames.tokens[1]), frames.tokens[1])

    def full(self, data):
        if self.parent == broken.parent:
            plain(self, bytes(data)[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return plain(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(DataError, match=r"labels\.npz: cannot be written \(No space left on device\)"):
            make(frames, tmp_path, LocalEngine())
    assert list(broken.parent.iterdir()) == []
    make(frames, tmp_path, LocalEngine())
    assert digest(tmp_path) == undisturbed


def test_what_a_killed_writer_left_is_removed(frames, undisturbed, tmp_path):
    token = frames.tokens[1]
    path = label_path(tmp_path, frames.scene(token), token)
    path.parent.mkdir(parents=True)
    (path.parent / ".labels.npz.77-88.partial").write_bytes(b"half")
    make(frames, tmp_path, LocalEngine())
    assert digest(tmp_path) == undisturbed


CALLER = """
import sys
from pathlib import Path
from occkit.engine import LocalEngine, RayEngine
from test_factory_on_ray import DataConfig, make, open_dataset
root, folder, marker, engine, fault = sys.argv[1:]
frames = open_dataset(Path(root), split="all", config=DataConfig(load_depth=False))
engine = RayEngine(workers=1) if engine == "ray" else LocalEngine()
make(frames, Path(folder), engine, fault=fault, token=frames.tokens[4], marker=Path(marker))
"""


@contextmanager
def called(frames, folder, engine, fault):
    """A process of its own, at the frame where the fault is, and in a group of its own like a command of a shell."""
    marker = folder.with_name("marker")
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *filter(None, sys.path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    environment.pop("RAY_ADDRESS", None)
    process = subprocess.Popen(
        [sys.executable, "-c", CALLER, str(frames.root), str(folder), str(marker), engine, fault],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        end = time.monotonic() + 300
        while not marker.exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        assert marker.exists(), "it never came to the frame of the fault"
        yield process
    finally:
        process.kill()
        process.communicate()


def finish(frames, folder, undisturbed):
    """Call again, in one process: what is there is kept, and the end is as if nothing had happened."""
    left = digest(folder)
    assert 1 <= len(list_labels(left)) < 6
    made = make(frames, folder, LocalEngine())
    assert (made.written, made.kept) == (6 - len(list_labels(left)), len(list_labels(left)))
    assert digest(folder) == undisturbed


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_a_caller_that_is_killed_is_called_again(frames, undisturbed, tmp_path, engine):
    if engine == "ray":
        pytest.importorskip("ray")
    with called(frames, tmp_path / "out", engine, "wait") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    finish(frames, tmp_path / "out", undisturbed)


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_ctrl_c_lets_what_runs_come_to_its_end(frames, undisturbed, tmp_path, engine):
    """A terminal interrupts the whole group: the call, and what of the cluster belongs to its group."""
    if engine == "ray":
        pytest.importorskip("ray")
    with called(frames, tmp_path / "out", engine, "linger") as process:
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=50)
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    if engine == "ray":
        points = [name for name in digest(tmp_path / "out") if frames.tokens[4] in name]
        assert points, "the worker was dismissed before its task had come to its end"
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    finish(frames, tmp_path / "out", undisturbed)

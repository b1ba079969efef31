"""The harness of `benchmarks/`: peaks are peaks, forms run in turns, and the table says what was measured."""

import importlib.util
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from occkit.cli import bench
from occkit.errors import ConfigError
from occkit.systems.lift import debug as lift_debug

ROOT = Path(__file__).parents[1]
if not (ROOT / "benchmarks" / "measure.py").is_file():
    pytest.skip("benchmarks/ belongs to the checkout, not to the package", allow_module_level=True)
sys.path.insert(0, str(ROOT))

from benchmarks import cigocc, labels, langocc, measure, occscene, rendering, table  # noqa: E402


def test_peak_memory_is_the_worst_moment_and_not_the_sum():
    def work():
        first = torch.ones(1_000_000)  # 4 MB
        second = first * 2  # 8 MB alive
        del first
        third = second + 1  # 8 MB alive again
        del second
        return float(third[0])

    assert measure.peak_memory(work) == pytest.approx(8e6, rel=0.01)


def test_peak_memory_sees_the_backward_pass():
    leaf = torch.ones(1_000_000, requires_grad=True)
    peak = measure.peak_memory(lambda: torch.autograd.grad((leaf * leaf).sum(), leaf))
    assert peak >= 8e6


def test_peak_resident_is_the_worst_moment_of_the_process():
    def work():
        first = np.ones(8_000_000)  # 64 MB
        second = first * 2  # 128 MB alive
        del first
        third = second + 1  # 128 MB alive again
        del second
        return third[0]

    work()
    peak = measure.peak_resident(work)
    if peak is None:
        pytest.skip("the system does not say how much memory a process had at the worst moment")
    assert peak == pytest.approx(128e6, rel=0.1)
    assert measure.peak_resident(lambda: None) < 8e6, "earlier peaks are forgotten"


def test_forms_run_in_turns_after_a_warm_up():
    calls = []
    ours, plain = measure.measure_pair(lambda: calls.append("o"), lambda: calls.append("p"), repeats=3, warmup=1)
    assert "".join(calls) == "op" * 4
    assert ours >= 0
    assert plain >= 0


def test_a_row_says_whether_it_reached_its_target():
    shared = {"at_least": 3, "shapes": "4 x 4", "dtype": "float32"}
    assert measure.compare("a", "b", 0.1, 0.4, **shared).reached
    missed = measure.compare("a", "b", 0.2, 0.4, **shared)
    assert missed.reached is False
    assert missed.ratio == 2
    assert "200 ms, plain 400 ms, 2.0x [not reached: >= 3x the plain form]" in measure.describe(missed)
    assert [measure.amount(*x) for x in ((1.5, "s"), (2e-5, "s"), (3 * 2**20, "B"), (5.5, "Mrays/s"))] == [
        "1.5 s",
        "20 us",
        "3 MiB",
        "5.5 Mrays/s",
    ]


def test_the_table_is_made_from_the_json():
    row = measure.compare("pooling", "pool", 0.1, 0.4, at_least=3, shapes="4 x 4", dtype="float32", difference=1e-6)
    report = json.loads(json.dumps({"machine": measure.machine(), "rows": [asdict(row)]}))
    page = table.insert(f"before\n{table.START}\nold\n{table.END}\nafter\n", table.markdown(report))
    assert "| `pooling` | pool | 4 x 4, float32 | 100 ms | 400 ms | 4.0x | >= 3x the plain form | yes |" in page
    assert "old" not in page
    assert page.startswith("before")
    assert page.endswith("after\n")
    with pytest.raises(ValueError, match="put them back"):
        table.insert("no marks", "")


NAMES = [path.stem for path in sorted((ROOT / "benchmarks").glob("*.py")) if "\ndef run(" in path.read_text("utf-8")]


def test_an_interrupted_run_leaves_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "measure.py").write_text("")
    row = 'Row(name="a", what="w", shapes="1", dtype="int8", ours=1.0, plain=None, ratio=None)'
    (folder / "a.py").write_text(f"from benchmarks.measure import Row\n\ndef run():\n    return [{row}]\n")
    (folder / "b.py").write_text("\ndef run():\n    raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        bench.main(["--folder", str(folder), "--json", str(tmp_path / "rows.json")])
    report = json.loads((tmp_path / "rows.json").read_text())
    assert [row["what"] for row in report["rows"]] == ["w"]
    assert report["machine"]["cores"] >= 1


def test_some_benchmarks_leave_the_rows_of_others(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder, file = tmp_path / "benchmarks", tmp_path / "rows.json"
    folder.mkdir()
    (folder / "measure.py").write_text("")
    for name in ("a", "b"):
        row = f'Row(name="{name}", what="w", shapes="1", dtype="int8", ours=1.0, plain=None, ratio=None)'
        (folder / f"{name}.py").write_text(f"from benchmarks.measure import Row\n\ndef run():\n    return [{row}]\n")
    command = ["--folder", str(folder), "--json", str(file)]
    for names, expected in ((["b"], ["b"]), (["a"], ["a", "b"]), (["b"], ["a", "b"]), ([], ["a", "b"])):
        assert bench.main([*names, *command]) == 0
        assert [row["name"] for row in json.loads(file.read_text())["rows"]] == expected
    report = json.loads(file.read_text())
    report["machine"]["load_average"] = 99
    file.write_text(json.dumps(report))
    bench.main(["a", *command])
    assert json.loads(file.read_text())["machine"]["load_average"] == 99, "a busy run stays one"
    report["machine"]["cpu"] = "another"
    file.write_text(json.dumps(report))
    with pytest.raises(ConfigError, match=r"another machine \(cpu\); run all"):
        bench.main(["a", *command])
    assert json.loads(file.read_text()) == report
    file.write_text("[]")
    with pytest.raises(ConfigError, match="no file of occkit bench"):
        bench.main(["a", *command])


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_a_name_and_a_run(name):
    path = ROOT / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks.{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert name == module.NAME
    assert callable(module.run)


def test_rendering_is_measured_at_any_size():
    sizes = rendering.Sizes(rays=8, samples=6, channels=4, shape=(6, 5, 4))
    rows = rendering.feature_rows(sizes, repeats=1, name="langocc", memory=8)
    assert [row.name for row in rows] == ["langocc"] * 4
    assert rows[0].extra["difference"] < 1e-5
    assert "8 rays x 6 samples, 4 channels, 6x5x4 voxels" in rows[0].shapes
    assert rows[2].target == ">= 8x the plain form"


def test_a_published_step_of_langocc_fits():
    """On the meta device: no memory."""
    full = langocc.step_bytes(langocc.langocc.full_r50_occ3d())
    assert full["total"] == sum(value for name, value in full.items() if name != "total")
    assert full["total"] < langocc.LIMIT
    # The vectors of 640,000 voxels, 512 numbers each, before and after they are normalised.
    assert full["backward"] == 2 * 640_000 * 512 * 4
    assert full["kept"] > full["backward"]


def test_cigocc_is_measured_at_any_size():
    sizes = cigocc.Sizes(cells=(3, 4), bins=5, queries=6, shape=(4, 4, 2), heads=2, channels=3, points=2)
    rows = [*cigocc.depth_rows(sizes, repeats=1), *cigocc.volume_rows(sizes, repeats=1)]
    assert [row.name for row in rows] == ["cigocc"] * 3
    assert rows[0].extra["difference"] < 1e-5
    debug = cigocc.cigocc.debug()
    steps = [*cigocc.step_rows(debug, debug, repeats=1), *cigocc.latency_rows(debug, debug, repeats=1)]
    assert [row.target for row in steps] == ["<= 1.05x the plain step"] * 4
    assert all(row.ours > 0 for row in steps)
    assert "prediction" in steps[2].what


def test_fusion_is_what_its_plain_form_says(monkeypatch):
    monkeypatch.setattr(labels, "HEIGHT", 180)
    monkeypatch.setattr(labels, "WIDTH", 320)
    cameras = labels.rig()
    points = labels.back_project(*labels.street(cameras), cameras, labels.OCC3D, stride=labels.STRIDE)
    rows = labels.fusion_rows(points, repeats=1)
    assert rows[0].extra["occupied"] > 1000


def test_drawing_is_measured_at_any_size():
    debug = occscene.occscene.debug()
    street = replace(debug.system, perception=lift_debug().system)
    rows = occscene.drawing_rows(replace(debug, system=street), steps=1, every=2, repeats=1)
    assert [row.target for row in rows] == ["", ">= 0.769231x the plain form"]
    assert "2 x 6 images of 32 x 88, 1 steps" in rows[0].shapes

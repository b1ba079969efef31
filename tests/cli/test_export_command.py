import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from occkit import cli
from occkit.data.rig_files import write_rigs
from occkit.export import exporter
from occkit.export.report import as_markdown
from occkit.geometry import Cameras
from occkit.systems.lift import debug
from occkit.training.checkpoint import from_pretrained, save_pretrained
from occkit.training.system import build_system

_TRACED: dict[str, onnx.ModelProto] = {}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of random weights that keeps two cameras, as a training does."""
    folder = tmp_path_factory.mktemp("run")
    recipe = debug()
    torch.manual_seed(0)  # the same weights as ever: they are part of what is traced once
    save_pretrained(build_system(recipe.system), recipe, folder)
    poses = torch.eye(4).repeat(1, 2, 1, 1)
    poses[..., :3, :3] = torch.tensor([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    poses[0, :, :3, 3] = torch.tensor([[0.5, 0.3, 1.6], [0.5, -0.3, 1.6]])
    intrinsics = torch.tensor([[70.0, 0, 44], [0, 70, 16], [0, 0, 1]]).repeat(1, 2, 1, 1)
    cameras = Cameras(intrinsics=intrinsics, ego_from_camera=poses, height=32, width=88)
    write_rigs(folder / "rigs", cameras, ("left", "right"))
    return folder


@pytest.fixture(autouse=True)
def traced_once(monkeypatch):
    """Trace equal graphs once for all tests here: it takes most of their time."""
    plain = exporter.trace

    def trace(graph, inputs):
        key = str({name: tuple(tensor.shape) for name, tensor in inputs.items()})
        if key not in _TRACED:
            _TRACED[key] = plain(graph, inputs)
        return onnx.ModelProto.FromString(_TRACED[key].SerializeToString())

    monkeypatch.setattr(exporter, "trace", trace)


def test_a_rig_measures_calibrates_and_runs_without_torch(run, rig, tmp_path, capsys):
    out, example = tmp_path / "out" / "model.onnx", tmp_path / "example"
    arguments = ["export", str(run), "--out", str(out), "--data", str(rig), "--variants", "fp16", "int8"]
    assert cli.main([*arguments, "--repeats", "1", "--example", str(example)]) == 0
    names = {"model.onnx", "model.fp16.onnx", "model.int8.onnx", "model.parity.json", "model.parity.md"}
    assert {path.name for path in out.parent.iterdir()} == names
    report = json.loads((out.parent / "model.parity.json").read_text())
    assert report["frames"] == ["one", "one (moved rig)"]
    whole, half, bytes_ = (report["variants"][name] for name in ("fp32", "fp16", "int8"))
    assert whole["within_limits"]
    assert whole["max_abs_difference"] < 1e-4
    assert whole["label_agreement"] >= 0.999
    assert whole["bytes"] == out.stat().st_size > half["bytes"]
    assert b"occkit/nn" not in out.read_bytes()  # nor where the sources lie
    # Fewer bits are a little off, and neither exact nor noise.
    for entry in (half, bytes_):
        assert whole["mean_abs_difference"] < entry["mean_abs_difference"] < 0.5
    assert report["torch"]["latency_ms"] > 0
    assert report["weights_sha256"] in (out.parent / "model.parity.md").read_text()
    page = as_markdown(report | {"frames": [f"frame {number}" for number in range(1, 13)]})
    assert "over 12 frames: frame 1," in page
    assert "frame 8 and 4 more, named" in page
    assert "frame 9" not in page
    assert "int8" in capsys.readouterr().out
    _runs_without_torch(out, example / "000" / "rig.json", run, rig)


def _runs_without_torch(file: Path, example: Path, run: Path, rig: Path) -> None:
    """See that the example's preparation is the library's, and that the file's metadata is enough for it."""
    path = Path(__file__).parents[2] / "examples" / "09_infer_without_torch.py"
    spec = importlib.util.spec_from_file_location("infer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.Model(file)
    assert model.about["recipe"] == "lift.debug"
    assert model.images["camera_names"] == ["front", "back"]
    labels = model.run(model.inputs(module.read_rig(example)))
    system, recipe = from_pretrained(run)
    from occkit.cli.predict import open_frames
    from occkit.samples import collate
    from occkit.training.system import predict

    with torch.no_grad():
        expected = predict(system, collate([open_frames(rig, "all", recipe).sample(0)])).semantics()[0].numpy()
    assert labels.shape == tuple(model.grid["shape"])
    assert (labels == expected).mean() > 0.999


def test_without_data_the_runs_own_cameras_do(run, tmp_path):
    out = tmp_path / "model.onnx"
    arguments = ["export", str(run), "--out", str(out), "--batch", "dynamic", "--fixed-rig", "--repeats", "1"]
    assert cli.main(arguments) == 0
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    assert images.shape == ["batch", 1, 2, 3, 32, 88]
    logits, labels = session.run(None, {"images": np.zeros((3, 1, 2, 3, 32, 88), np.uint8)})
    assert logits.shape == (3, 18, 100, 100, 8)
    assert np.array_equal(logits.argmax(axis=1), labels)
    assert json.loads((tmp_path / "model.parity.json").read_text())["rig"] == "fixed"


def test_what_does_not_agree_is_not_written(run, tmp_path, monkeypatch, capsys):
    exact = exporter.trace

    def shifted(graph, inputs):
        model = exact(graph, inputs)
        weights = next(t for t in model.graph.initializer if len(t.dims) == 4)
        values = np.frombuffer(weights.raw_data, np.float32) + np.float32(0.5)
        weights.raw_data = values.tobytes()
        return model

    monkeypatch.setattr(exporter, "trace", shifted)
    assert cli.main(["export", str(run), "--out", str(tmp_path / "out" / "model.onnx"), "--repeats", "1"]) == 1
    assert "nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--out", "model.pt"], "ends in .onnx"),
        (["--out", "model.onnx", "--batch", "0"], "1..64"),
        (["--out", "model.onnx", "--batch", "many"], "dynamic"),
        (["--out", "model.onnx", "--variants", "int8"], "needs --data"),
        (["--out", "model.onnx", "--example", "folder"], "needs --data"),
        (["--out", "model.onnx", "--repeats", "0"], "at least 1"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_read(arguments, reason, capsys):
    assert cli.main(["export", "no_such_run", *arguments]) == 2
    assert reason in capsys.readouterr().err


def test_a_run_that_keeps_no_cameras_needs_data(tmp_path, capsys):
    recipe = replace(debug(), name="lift.debug")
    save_pretrained(build_system(recipe.system), recipe, tmp_path / "run")
    assert cli.main(["export", str(tmp_path / "run"), "--out", str(tmp_path / "model.onnx")]) == 1
    assert "give --data" in capsys.readouterr().err

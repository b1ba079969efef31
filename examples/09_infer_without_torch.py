"""09: run an exported model where there is neither torch nor occkit, only onnxruntime, numpy and Pillow.

    python examples/09_infer_without_torch.py --out inference
    python examples/09_infer_without_torch.py --out inference --model model.onnx --rig rig.json

What you learn
    The ONNX file says itself which images it wants, what its voxels and classes are. Images come in as they are
    (RGB 0..255); what is left to do is to scale them, and the camera matrices with them. Without --model two commands
    run first, in programs of their own: `occkit world` makes a street, `occkit export` turns a network that comes with
    occkit into a file.

What comes out
    semantics.npz  `semantics`, uint8 [x, y, z], ids of the file's classes
    top.png        the scene from above, in the file's colours
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


class Model:
    """An exported file: how it describes itself, and a session that runs it."""

    def __init__(self, path: Path) -> None:
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.about = json.loads(self.session.get_modelmeta().custom_metadata_map["occkit"])
        self.images, self.grid, self.taxonomy = (self.about[key] for key in ("images", "grid", "taxonomy"))
        self.wanted = [value.name for value in self.session.get_inputs()]
        unknown = set(self.wanted) - {"images", "intrinsics", "ego_from_camera", "distortion"}
        if self.images["frames"] != 1 or unknown:
            raise SystemExit(f"{path.name} also wants {unknown or 'past images'}: fill them in as its metadata says")

    def inputs(self, cameras: list[dict]) -> dict[str, np.ndarray]:
        """Return what the session takes: of each camera a Pillow image, intrinsics, ego_from_camera, distortion."""
        if len(cameras) != self.images["cameras"]:
            raise ValueError(f"expected {self.images['cameras']} cameras, got {len(cameras)}")
        scaled = [scale(c["image"], np.asarray(c["intrinsics"], np.float64), self.images) for c in cameras]
        lenses = [[*c.get("distortion", ()), *[0.0] * 8] for c in cameras]
        known = 8 if "distortion" in self.wanted else 0
        if "intrinsics" in self.wanted and any(any(lens[known:]) for lens in lenses):
            raise ValueError("the file knows no such lens: undistort the images, or export it with --lens")
        arrays = {
            "images": np.stack([pixels.transpose(2, 0, 1) for pixels, _ in scaled]),
            "intrinsics": np.stack([matrix for _, matrix in scaled]).astype(np.float32),
            "ego_from_camera": np.array([c["ego_from_camera"] for c in cameras], np.float32),
            "distortion": np.array([lens[:8] for lens in lenses], np.float32),
        }
        # One sample, one time: the leading two dimensions.
        return {name: arrays[name][None, None] for name in self.wanted}

    def run(self, inputs: dict[str, np.ndarray], options: onnxruntime.RunOptions | None = None) -> np.ndarray:
        """Return the class of every voxel, [x, y, z] uint8."""
        return self.session.run(["labels"], inputs, options)[0][0]

    def top(self, labels: np.ndarray) -> Image.Image:
        """Draw what is highest in every column; ahead is up, left is left."""
        taken = labels != self.taxonomy["free_id"]
        height = taken.shape[2] - 1 - taken[:, :, ::-1].argmax(axis=2)
        ids = np.take_along_axis(labels, height[..., None], axis=2)[..., 0]
        shown = np.array(self.taxonomy["colours"], np.uint8)[ids]
        shown[~taken.any(axis=2)] = 255
        return Image.fromarray(shown[::-1, ::-1].copy()).resize((512, 512), Image.Resampling.NEAREST)


def scale(image: Image.Image, intrinsics: np.ndarray, wanted: dict) -> tuple[np.ndarray, np.ndarray]:
    """Bring an image to the model's size, and its camera matrix with it: scaled to the width, cut off at the top."""
    rows = round(image.height * wanted["width"] / image.width) if wanted["keep_aspect"] else wanted["height"]
    top = rows - wanted["height"]
    small = image.convert("RGB").resize((wanted["width"], max(1, rows)), Image.Resampling.BILINEAR)
    cut = small.crop((0, top, wanted["width"], rows))
    factors = np.array([wanted["width"] / image.width, rows / image.height, 1.0])
    moved = intrinsics * factors[:, None]
    moved[1, 2] -= top
    return np.asarray(cut), moved


def read_rig(path: Path) -> list[dict]:
    """Read the cameras of a rig.json, and their images beside it."""
    cameras = json.loads(path.read_text())["cameras"]
    return [camera | {"image": Image.open(path.parent / camera["image"])} for camera in cameras]


def make(out: Path) -> tuple[Path, Path]:
    """Make a model and a frame to try it on."""
    world, model = out / "world", out / "model.onnx"
    commands = [
        ["world", "--format", "nuscenes", "--preset", "nano", "--scenes", "2", "--frames", "2", "--out", str(world)],
        ["export", "lift-nano", "--data", str(world), "--out", str(model), "--frames", "1"],
    ]
    commands[1] += ["--example", str(out / "rig")]
    for command in commands:
        print("occkit", *command[:2])
        subprocess.run([sys.executable, "-m", "occkit.cli", *command], check=True, capture_output=True)
    return model, out / "rig" / "000" / "rig.json"


def main() -> None:
    """Predict one frame."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rig", type=Path)
    args = parser.parse_args()
    if (args.model is None) != (args.rig is None):
        parser.error("give both --model and --rig, or neither")
    path, rig = (args.model, args.rig) if args.model else make(args.out)
    model = Model(path)
    labels = model.run(model.inputs(read_rig(rig)))
    args.out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(args.out / "semantics.npz", semantics=labels)
    model.top(labels).save(args.out / "top.png")
    ids, counts = np.unique(labels, return_counts=True)
    for count, name in sorted(zip(counts.tolist(), (model.taxonomy["classes"][i] for i in ids), strict=True))[::-1][:4]:
        print(f"{count:9,} voxels of {name}")
    assert "torch" not in sys.modules
    print(f"{model.about['recipe']} on {model.images['cameras']} cameras, without torch")


if __name__ == "__main__":
    main()

"""The nuScenes layout: links, files, and labels that agree with the images and the scans."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from occkit.data.occ3d import read_labels
from occkit.files import read_image, read_json
from occkit.geometry import Cameras, compensate_motion, pose_from_quaternion, transform_points
from occkit.taxonomy import OCC3D
from occkit.world import WorldConfig
from occkit.world.words import WORDS, plural

VERSION = "v1.0-trainval"


class Tables:
    """All tables by name and token."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows = {path.stem: read_json(path) for path in sorted((root / VERSION).glob("*.json"))}
        self.by_token = {name: {row["token"]: row for row in rows} for name, rows in self.rows.items()}

    def pose(self, row: dict) -> torch.Tensor:
        return pose_from_quaternion(
            torch.tensor(row["rotation"], dtype=torch.float64), torch.tensor(row["translation"], dtype=torch.float64)
        )

    def data(self, sample: str) -> dict[str, dict]:
        found = {}
        for row in self.rows["sample_data"]:
            if row["sample_token"] == sample and row["is_key_frame"]:
                calibration = self.by_token["calibrated_sensor"][row["calibrated_sensor_token"]]
                found[self.by_token["sensor"][calibration["sensor_token"]]["channel"]] = row
        return found


@pytest.fixture(scope="module")
def tables(nuscenes_world: Path) -> Tables:
    return Tables(nuscenes_world)


def test_the_thirteen_tables(tables: Tables) -> None:
    assert sorted(tables.rows) == sorted(
        [
            "attribute",
            "calibrated_sensor",
            "category",
            "ego_pose",
            "instance",
            "log",
            "map",
            "sample",
            "sample_annotation",
            "sample_data",
            "scene",
            "sensor",
            "visibility",
        ]
    )
    for name, rows in tables.rows.items():
        assert len({row["token"] for row in rows}) == len(rows), name


def test_every_token_resolves(tables: Tables) -> None:
    """A field `x_token` names a row of table x; first/last/prev/next name rows of what they chain."""
    irregular = {
        "first_sample_token": "sample", "last_sample_token": "sample", "first_annotation_token": "sample_annotation",
        "last_annotation_token": "sample_annotation",
    }  # fmt: skip
    for name, rows in tables.rows.items():
        for row in rows:
            for key, value in row.items():
                if key.endswith("_token"):
                    assert value in tables.by_token[irregular.get(key, key.removesuffix("_token"))], (name, key)
                if key.endswith("_tokens"):
                    assert all(v in tables.by_token[key.removesuffix("_tokens")] for v in value), (name, key)
                if key in ("prev", "next") and value:
                    back = "next" if key == "prev" else "prev"
                    assert tables.by_token[name][value][back] == row["token"]


def test_chains_are_whole_and_in_time(tables: Tables, nuscenes_config: WorldConfig) -> None:
    frames, sweeps = nuscenes_config.frames, nuscenes_config.sweeps
    for scene in tables.rows["scene"]:
        walked, at = [], scene["first_sample_token"]
        while at:
            walked.append(at)
            at = tables.by_token["sample"][at]["next"]
        assert len(walked) == scene["nbr_samples"] == frames
        assert walked[-1] == scene["last_sample_token"]
        times = [tables.by_token["sample"][t]["timestamp"] for t in walked]
        assert np.diff(times).tolist() == [500_000] * (frames - 1)
    starts = [row for row in tables.rows["sample_data"] if not row["prev"]]
    assert len(starts) == 7 * len(tables.rows["scene"])
    for row in starts:
        stamps, keys = [], 0
        at = row
        while True:
            stamps.append(at["timestamp"])
            keys += at["is_key_frame"]
            if not at["next"]:
                break
            at = tables.by_token["sample_data"][at["next"]]
        assert stamps == sorted(stamps)
        assert (len(stamps), keys) == (frames + (frames - 1) * sweeps, frames)


def test_files_exist_and_have_their_size(tables: Tables) -> None:
    for row in tables.rows["sample_data"]:
        path = tables.root / row["filename"]
        if row["fileformat"] == "jpg":
            assert read_image(path).shape == (3, row["height"], row["width"])
        else:
            assert path.stat().st_size % 20 == 0
        assert row["filename"].split("/")[0] == ("samples" if row["is_key_frame"] else "sweeps")


def test_each_camera_has_its_own_pose(tables: Tables) -> None:
    data = tables.data(tables.rows["sample"][1]["token"])
    stamps = {row["timestamp"] for row in data.values()}
    places = {tuple(tables.by_token["ego_pose"][row["ego_pose_token"]]["translation"]) for row in data.values()}
    assert len(stamps) == len(places) == 7
    assert data["LIDAR_TOP"]["timestamp"] == tables.rows["sample"][1]["timestamp"]


def _cameras(tables: Tables, data: dict[str, dict], channel: str) -> Cameras:
    reference = tables.pose(tables.by_token["ego_pose"][data["LIDAR_TOP"]["ego_pose_token"]])
    row = data[channel]
    calibration = tables.by_token["calibrated_sensor"][row["calibrated_sensor_token"]]
    moved = compensate_motion(
        tables.pose(calibration), tables.pose(tables.by_token["ego_pose"][row["ego_pose_token"]]), reference
    )
    return Cameras(
        intrinsics=torch.tensor(calibration["camera_intrinsic"], dtype=torch.float64),
        ego_from_camera=moved,
        height=row["height"],
        width=row["width"],
    )


def test_labels_agree_with_truth_images(tables: Tables) -> None:
    """A pixel's point, unprojected with the tables' poses, lies in a voxel that holds the pixel's class."""
    same, occupied, masked, total = 0, 0, 0, 0
    for sample in tables.rows["sample"]:
        scene = tables.by_token["scene"][sample["scene_token"]]["name"]
        label = read_labels(tables.root / "gts" / scene / sample["token"] / "labels.npz")
        data = tables.data(sample["token"])
        for channel in data:
            if channel == "LIDAR_TOP":
                continue
            truth = np.load(tables.root / "truth" / scene / sample["token"] / f"{channel}.npz")
            cameras = _cameras(tables, data, channel)
            depth = torch.from_numpy(truth["depth"].astype(np.float64))
            v, u = (depth > 0).nonzero(as_tuple=True)
            points = cameras.unproject(torch.stack([u, v], -1).double() + 0.5, depth[v, u])
            # A little further in than the surface, which may be the face between two voxels.
            eye = cameras.ego_from_camera[:3, 3]
            points = points + 0.02 * torch.nn.functional.normalize(points - eye, dim=-1)
            index, inside = label.grid.index_of(points)
            i, j, k = index[inside].unbind(-1)
            found = label.semantics[i, j, k]
            wanted = torch.from_numpy(truth["semantics"])[v, u][inside]
            same += int((found == wanted).sum())
            occupied += int((found != OCC3D.free_id).sum())
            assert label.mask_camera is not None
            masked += int(label.mask_camera[i, j, k].sum())
            total += len(found)
    assert occupied / total > 0.99
    assert same / total > 0.85
    # Less than all: what shares its voxel with something nearer is hidden in the volume, though not in the image.
    assert masked / total > 0.5


def test_scan_points_lie_in_occupied_voxels(tables: Tables) -> None:
    for sample in tables.rows["sample"][:4]:
        data = tables.data(sample["token"])
        scene = tables.by_token["scene"][sample["scene_token"]]["name"]
        label = read_labels(tables.root / "gts" / scene / sample["token"] / "labels.npz")
        row = data["LIDAR_TOP"]
        points = torch.from_numpy(np.fromfile(tables.root / row["filename"], "<f4").reshape(-1, 5))
        assert points[:, 3].min() >= 0
        assert 1 < points[:, 3].max() <= 255
        assert points[:, 4].unique().tolist() == sorted(points[:, 4].unique().tolist())
        mounting = tables.pose(tables.by_token["calibrated_sensor"][row["calibrated_sensor_token"]])
        index, inside = label.grid.index_of(transform_points(mounting, points[:, :3].double()))
        i, j, k = index[inside].unbind(-1)
        assert inside.sum() > 3000
        assert label.occupied[i, j, k].float().mean() > 0.99


def test_masks_are_partial_and_hold_the_ground_ahead(tables: Tables) -> None:
    sample = tables.rows["sample"][0]
    scene = tables.by_token["scene"][sample["scene_token"]]["name"]
    label = read_labels(tables.root / "gts" / scene / sample["token"] / "labels.npz")
    for mask in (label.mask_camera, label.mask_lidar):
        assert mask is not None
        assert 0.05 < mask.float().mean() < 0.7
        assert mask[54:60, 50, 1].all()  # the road 4 to 8 m ahead
        assert not mask[:, :, 0].any() or mask[:, :, 0].float().mean() < 0.1  # below it little


def test_boxes_hold_the_points_of_their_instance(tables: Tables) -> None:
    """Of the scan points inside the boxes that claim points, as many as they claim."""
    sample = tables.rows["sample"][0]
    row = tables.data(sample["token"])["LIDAR_TOP"]
    points = torch.from_numpy(np.fromfile(tables.root / row["filename"], "<f4").reshape(-1, 5)[:, :3]).double()
    calibration = tables.pose(tables.by_token["calibrated_sensor"][row["calibrated_sensor_token"]])
    world = tables.pose(tables.by_token["ego_pose"][row["ego_pose_token"]]) @ calibration
    points = transform_points(world, points)
    boxes = [a for a in tables.rows["sample_annotation"] if a["sample_token"] == sample["token"]]
    claimed, found = 0, 0
    for box in boxes:
        local = transform_points(torch.linalg.inv(tables.pose(box)), points)
        width, length, height = box["size"]
        reach = torch.tensor([length, width, height]).double() / 2 + 0.06
        found += min(int((local.abs() <= reach).all(-1).sum()), box["num_lidar_pts"])
        claimed += box["num_lidar_pts"]
    assert claimed > 50
    assert found / claimed > 0.97


def test_annotations_json_follows_occ3d(tables: Tables) -> None:
    document = read_json(tables.root / "annotations.json")
    assert document["train_split"] == ["scene-0001", "scene-0002"]
    assert document["val_split"] == ["scene-0003"]
    for scene, frames in document["scene_infos"].items():
        for token, info in frames.items():
            assert (tables.root / info["gt_path"]).parent.name == token
            assert info["gt_path"] == f"gts/{scene}/{token}/labels.npz"
            assert len(info["camera_sensor"]) == 6
            for data_token, camera in info["camera_sensor"].items():
                assert tables.by_token["sample_data"][data_token]["filename"] == camera["img_path"]


def test_captions_count_what_is_in_view(tables: Tables) -> None:
    captions = read_json(tables.root / "captions.json")
    assert set(captions) == set(tables.by_token["sample"])
    names = {plural(w.name, n).split(" ", 1)[1]: w for w in WORDS for n in (1, 2)}
    for sample in tables.rows["sample"]:
        _, _, objects = captions[sample["token"]].partition(", with ")
        said: dict[str, int] = {}
        for phrase in objects.split(", "):
            count, name = phrase.split(" ", 1)
            said[names[name].category] = said.get(names[name].category, 0) + int(count)
        scene = tables.by_token["scene"][sample["scene_token"]]["name"]
        boxes = [a for a in tables.rows["sample_annotation"] if a["sample_token"] == sample["token"]]
        there: dict[str, int] = {}
        for box in boxes:
            instance = tables.by_token["instance"][box["instance_token"]]
            category = tables.by_token["category"][instance["category_token"]]["name"]
            there[category] = there.get(category, 0) + 1
        for category, count in said.items():
            assert count >= 1
            if not category.startswith("static."):
                assert count <= there[category], (scene, category)


def test_movers_move_and_the_parked_stay(tables: Tables) -> None:
    moving = {a["token"] for a in tables.rows["attribute"] if a["name"] == "vehicle.moving"}
    shifts = {True: [], False: []}
    for box in tables.rows["sample_annotation"]:
        if box["next"] and box["attribute_tokens"]:
            after = tables.by_token["sample_annotation"][box["next"]]
            shift = np.linalg.norm(np.subtract(after["translation"], box["translation"]))
            name = tables.by_token["attribute"][box["attribute_tokens"][0]]["name"]
            if name.startswith("vehicle"):
                shifts[box["attribute_tokens"][0] in moving].append(shift)
    assert max(shifts[False]) == 0
    assert np.mean(np.array(shifts[True]) > 0.2) > 0.9


def test_table_files_are_plain_json(tables: Tables) -> None:
    text = (tables.root / VERSION / "scene.json").read_text()
    assert json.loads(text)[0]["name"] == "scene-0001"

"""The scene in a browser, layer by layer: what has not changed is not sent again."""

import hashlib
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor
from viser import SceneApi, SceneNodeHandle

from occkit.geometry import Cameras
from occkit.geometry.poses import quaternion_from_rotation
from occkit.samples import Occupancy, Sample
from occkit.viewer import canvas
from occkit.viewer.boxes import Cut, box, outer_boxes
from occkit.viewer.keys import class_name
from occkit.viewer.scene import EgoCar

CAR = "/car"
"""Everything of a frame hangs on this node: to move the car is one message."""
_GAP = 0.985
"""Edge of a box as a share of the voxel's: a hair of shade between neighbours."""
_IMAGE_WIDTH = 400
"""Images on the frustums are scaled down to this, pixels."""
_MAX_LIDAR_DEPTH = 50.0
"""LiDAR points farther away have the last colour, metres."""


class Stage:
    """Puts a frame on a scene of viser, and remembers what lies there."""

    def __init__(self, scene: SceneApi) -> None:
        """Light the scene.

        Args:
            scene: of a server; it must outlive the stage.
        """
        self.scene = scene
        self.sent = 0
        """Layers sent so far."""
        self._digests: dict[str, str] = {}
        self._nodes: dict[str, SceneNodeHandle] = {}
        self._shown: dict[str, bool] = {}
        scene.set_up_direction("+z")
        # Lights of our own: the default ones and the environment map wash the classes' colours out.
        scene.configure_default_lights(enabled=False)
        scene.configure_environment_map(None)
        scene.add_light_ambient("/light/all", intensity=1.5)
        for name, place, strength in (("sun", (-4.0, 6.0, 12.0), 1.3), ("back", (5.0, -6.0, 4.0), 0.5)):
            scene.add_light_directional(f"/light/{name}", intensity=strength, position=place)
        self._car = scene.add_frame(CAR, show_axes=False)

    def put_volume(self, occupancy: Occupancy, *, hidden: frozenset[int] = frozenset(), cut: Cut | None = None) -> None:
        """Show a volume: a layer of boxes a class.

        Args:
            occupancy: `[x, y, z]`, one volume.
            hidden: ids that are there and not shown.
            cut: leave out what lies above this plane.
        """
        boxes, palette = outer_boxes(occupancy, cut=cut), _linear(occupancy.taxonomy.palette())
        size, layers = occupancy.grid.voxel_size, f"{CAR}/voxels/"
        vertices, triangles = box([_GAP * edge for edge in size])
        names = {i: layers + class_name(occupancy.taxonomy, i) for i in boxes}
        for i, centres in boxes.items():
            turns = np.broadcast_to(np.array([1, 0, 0, 0], np.float32), (len(centres), 4))
            colour = palette[i]
            self._put(
                names[i],
                (centres, np.array(size), colour),
                lambda name, centres=centres, turns=turns, colour=colour: self.scene.add_batched_meshes_simple(
                    name, vertices, triangles, turns, centres, batched_colors=colour, flat_shading=True, lod="off"
                ),
                visible=i not in hidden,
            )
        self._drop(layers, set(names.values()))

    def put_cameras(self, sample: Sample | None, *, size: float, visible: bool) -> None:
        """Show the current cameras as frustums that hold their images.

        Args:
            sample: current images (index 0 in time) and cameras; None removes them.
            size: distance of the image from the camera, metres.
            visible: whether they are seen.
        """
        names = () if sample is None else sample.camera_names
        if sample is not None:
            for i, name in enumerate(names):
                camera, image = sample.cameras[0, i], _small(sample.images[0, i])
                fov, aspect = field_of_view(camera)
                turn, place = _placed(camera.ego_from_camera)
                self._put(
                    f"{CAR}/cameras/{name}",
                    (image, turn, place, np.array([fov, aspect, size])),
                    lambda node, fov=fov, aspect=aspect, image=image, turn=turn, place=place: (
                        self.scene.add_camera_frustum(
                            node, fov, aspect, scale=size, image=image, wxyz=turn, position=place, color=(40, 60, 90)
                        )
                    ),
                    visible=visible,
                )
        self._drop(f"{CAR}/cameras/", {f"{CAR}/cameras/{name}" for name in names})

    def put_points(self, points: Float[Tensor, "p 4"] | None, *, visible: bool) -> None:
        """Show LiDAR points (x, y, z in metres, intensity), coloured by their distance; None removes them."""
        name = f"{CAR}/lidar"
        if points is None:
            self._drop(name, set())
            return
        places = points[:, :3].numpy().astype(np.float32)
        colours = canvas.turbo(np.linalg.norm(places, axis=1) / _MAX_LIDAR_DEPTH)
        self._put(
            name,
            (places, colours),
            lambda node: self.scene.add_point_cloud(
                node, places, colours, point_size=0.08, precision="float32", point_shading="flat", point_shape="circle"
            ),
            visible=visible,
        )

    def put_car(self, ego: EgoCar | None) -> None:
        """Show the recording car as two boxes; None removes it."""
        name = f"{CAR}/ego/"
        boxes = {} if ego is None else dict(zip(("body", "cabin"), ego.boxes(), strict=True))
        for part, (lower, upper) in boxes.items():
            vertices, triangles = box((upper - lower).tolist())
            middle, colour = tuple(((lower + upper) / 2).tolist()), (245, 245, 245) if part == "body" else (40, 48, 60)
            self._put(
                name + part,
                (vertices, np.array(middle)),
                lambda node, vertices=vertices, triangles=triangles, middle=middle, colour=colour: (
                    self.scene.add_mesh_simple(
                        node, vertices, triangles, color=colour, flat_shading=True, position=middle
                    )
                ),
                visible=True,
            )
        self._drop(name, {name + part for part in boxes})

    def move_car(self, pose: Float[Tensor, "4 4"]) -> None:
        """Place the frame of reference in the scene: one small message, whatever hangs on it."""
        turn, place = _placed(pose)
        self._car.wxyz, self._car.position = turn, place

    def _put(
        self,
        name: str,
        arrays: tuple[npt.NDArray[np.generic], ...],
        add: Callable[[str], SceneNodeHandle],
        *,
        visible: bool,
    ) -> None:
        """Send a layer if its arrays are others than those that lie there; show or hide it."""
        digest = hashlib.blake2b(digest_size=16)
        for array in arrays:
            digest.update(f"{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).data)
        if self._digests.get(name) != digest.hexdigest():
            self._nodes[name] = add(name)
            self._digests[name] = digest.hexdigest()
            self._shown[name] = True
            self.sent += 1
        if self._shown[name] != visible:
            self._nodes[name].visible = visible
            self._shown[name] = visible

    def _drop(self, prefix: str, wanted: set[str]) -> None:
        """Remove the layers below a name that are not wanted."""
        for name in [name for name in self._nodes if name.startswith(prefix) and name not in wanted]:
            self._nodes.pop(name).remove()
            del self._digests[name], self._shown[name]


def field_of_view(camera: Cameras) -> tuple[float, float]:
    """Return the angle over the height of one camera's image, radians, and the aspect that its width then has."""
    fx, fy = float(camera.intrinsics[0, 0]), float(camera.intrinsics[1, 1])
    return 2 * math.atan(camera.height / 2 / fy), (camera.width / fx) / (camera.height / fy)


def _placed(pose: Float[Tensor, "4 4"]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    double = pose.double()
    return quaternion_from_rotation(double[:3, :3]).numpy(), double[:3, 3].numpy()


def _linear(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return sRGB colours as the linear ones that viser's instances are shaded with."""
    value = colours / 255.0
    return (255 * np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)).round().astype(np.uint8)


def _small(image: Tensor) -> canvas.Picture:
    picture = canvas.to_array(image.to(torch.uint8).numpy())
    height, width = picture.shape[:2]
    if width <= _IMAGE_WIDTH:
        return np.ascontiguousarray(picture)
    return np.ascontiguousarray(canvas.resize(picture, round(height * _IMAGE_WIDTH / width), _IMAGE_WIDTH))

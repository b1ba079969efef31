"""Frames in a web browser: voxels to fly through, a slider over time, switches for classes, a line to ask in."""

import contextlib
import html
import threading
import time
from collections.abc import Callable, Generator
from functools import lru_cache

import torch
import viser

from occkit.errors import ConfigError, OcckitError
from occkit.geometry import VoxelGrid, invert_pose
from occkit.geometry.poses import quaternion_from_rotation
from occkit.samples import Occupancy
from occkit.viewer import canvas
from occkit.viewer.boxes import Cut
from occkit.viewer.compare import seen_by_cameras
from occkit.viewer.heat import STEPS
from occkit.viewer.keys import Answer, class_name, legend_html, present_ids, scale_html
from occkit.viewer.server import eye_and_target, place_first_camera, serve, stop
from occkit.viewer.show import FrameToShow, Show, Shown
from occkit.viewer.stage import Stage, field_of_view

BEHIND, ABOVE = "from behind", "from above"
_AXES = ("no cut", "forward", "left", "up")
_KEPT = 24
_FRAMES_A_SECOND = 2.0
_LAST_LETTERS = 0.3


Ask = Callable[[str, int, bool], Answer]
"""Returns what the frame of a number answers to words: the voxels that fit, or the best whether they fit or not (True).
Raises OcckitError if it cannot."""
Draw = Callable[[str, int], FrameToShow]
"""Returns a scene drawn from a prompt and a seed. Raises OcckitError if it cannot."""


class Browser:
    """A server that shows frames to whoever opens its page."""

    def __init__(
        self,
        show: Show,
        *,
        host: str = "127.0.0.1",
        port: int = 8080,
        first: str | None = None,
        ask: Ask | None = None,
        draw: Draw | None = None,
    ) -> None:
        """Start the server and show the first frame.

        Args:
            show: what to look at.
            host: address to listen on; the default is reached from this machine only.
            port: of the page; 0 takes a free one.
            first: name of the volume to begin with.
            ask: answers words, of an open-vocabulary model.
            draw: draws scenes, of a generating model.

        Raises:
            ConfigError: if the port is taken, or there is no such volume.
            DataError: if the first frame cannot be read.
        """
        self.frames = list(show.frames)
        self._ask, self._draw = ask, draw
        self._read = lru_cache(maxsize=_KEPT)(lambda index: self.frames[index].read())
        self._answer = None if ask is None else lru_cache(maxsize=_KEPT)(ask)
        shown = self._read(0)
        if first is not None and first not in shown.volumes:
            raise ConfigError(f"frame {shown.token} has no volume {first!r}, but {', '.join(shown.volumes)}")
        self.server = serve(host, port, label=show.title)
        self.stage = Stage(self.server.scene)
        self._lock = threading.RLock()
        self._drawing = False
        self._query = ""
        self._hidden: set[str] = set()
        self._switches: dict[str, viser.GuiInputHandle[bool]] = {}
        self._build_panel(shown)
        self._what.value = first or self._what.value
        place_first_camera(self.server, next(iter(shown.volumes.values())).grid)
        self.redraw()

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{self.server.get_host()}:{self.server.get_port()}"

    def run(self) -> None:
        """Serve until interrupted; frames go on by themselves while "play" is switched on."""
        while True:
            time.sleep(1 / _FRAMES_A_SECOND)
            if self._play.value and not self._drawing:
                self._frame.value = (int(self._frame.value) + 1) % len(self.frames)

    def stop(self) -> None:
        """End the server."""
        stop(self.server)

    def redraw(self) -> None:
        """Show what the panel asks for; only layers that change are sent."""
        with self._lock, self._at_work(), self.server.atomic():
            index = int(self._frame.value)
            shown = self._read(index)
            chosen = self._choose((*shown.volumes, *self._found_name()))
            answer = None if chosen in shown.volumes else self._answer_to(self._query, index)
            volume = shown.volumes[chosen] if answer is None else answer.volume
            if self._only_seen.value:
                volume = seen_by_cameras(volume, *shown.volumes.values())
            self._offer_classes(volume, answer)
            cut = self._cut_of(volume.grid)
            self.stage.put_volume(volume, hidden=self._hidden_ids(volume, answer), cut=cut)
            self.stage.put_cameras(shown.sample, size=float(self._camera_size.value), visible=self._cameras.value)
            points = None if shown.sample is None else shown.sample.points
            self.stage.put_points(points, visible=self._lidar.value)
            self.stage.put_car(shown.ego if self._car.value else None)
            self.stage.move_car(self._pose(index))
            self._about.content = _about(shown, index, len(self.frames))
            self._key.content = legend_html(volume) if answer is None else scale_html(answer)

    @contextlib.contextmanager
    def _at_work(self) -> Generator[None]:
        self._drawing = True
        try:
            yield
        finally:
            self._drawing = False

    def _answer_to(self, query: str, index: int) -> Answer:
        assert self._answer is not None
        return self._answer(query, index, bool(self._best.value))

    def _found_name(self) -> tuple[str, ...]:
        return (f"found: {self._query}",) if self._query else ()

    def _hidden_ids(self, volume: Occupancy, answer: Answer | None) -> frozenset[int]:
        if answer is not None:
            return frozenset(range(STEPS)) if self._only_found.value else frozenset()
        return frozenset(i for i in present_ids(volume) if class_name(volume.taxonomy, i) in self._hidden)

    def _choose(self, names: tuple[str, ...]) -> str:
        """Offer these volumes, and return the one that is chosen; the first if that one is not there."""
        if tuple(self._what.options) != names:
            chosen = self._what.value
            self._what.options = names
            self._what.value = chosen if chosen in names else names[0]
        return self._what.value

    def _offer_classes(self, volume: Occupancy, answer: Answer | None) -> None:
        """Show a switch for each class of the volume and no other; for an answer one for what is not found."""
        present = [class_name(volume.taxonomy, i) for i in present_ids(volume)] if answer is None else []
        for name in present:
            if name not in self._switches:
                with self._classes:
                    switch = self.server.gui.add_checkbox(name, name not in self._hidden)
                switch.on_update(lambda event, name=name: self._switch(name, event.target.value))
                self._switches[name] = switch
        for name, switch in self._switches.items():
            switch.visible = name in present
        self._only_found.visible, self._all_or_none.visible = answer is not None, answer is None

    def _switch(self, name: str, on: bool) -> None:
        (self._hidden.discard if on else self._hidden.add)(name)
        self.redraw()

    def _switch_all(self, on: bool) -> None:
        with self._lock:
            for name, switch in self._switches.items():
                if switch.visible:
                    (self._hidden.discard if on else self._hidden.add)(name)
                    switch.value = on
        self.redraw()

    def _cut_of(self, grid: VoxelGrid) -> Cut | None:
        axis = _AXES.index(self._axis.value) - 1
        if axis < 0:
            return None
        lower, upper = grid.origin[axis], grid.upper[axis]
        return Cut(axis=axis, at=lower + float(self._share.value) / 100 * (upper - lower))

    def _pose(self, index: int) -> torch.Tensor:
        """Return where the car is in the scene: at the origin while it is followed, else where it has driven."""
        sample, first = self._read(index).sample, self._read(self._scene_start(index)).sample
        if self._follow.value or sample is None or first is None:
            return torch.eye(4, dtype=torch.float64)
        if sample.global_from_ego is None or first.global_from_ego is None:
            return torch.eye(4, dtype=torch.float64)
        return invert_pose(first.global_from_ego.double()) @ sample.global_from_ego.double()

    def _scene_start(self, index: int) -> int:
        while index and self.frames[index - 1].scene == self.frames[index].scene:
            index -= 1
        return index

    def _build_panel(self, first: Shown) -> None:
        gui = self.server.gui
        gui.configure_theme(show_logo=False, show_share_button=False, control_width="medium")
        self._about = gui.add_html("")
        many = len(self.frames) > 1
        self._frame = gui.add_slider(
            "frame", min=0, max=max(1, len(self.frames) - 1), step=1, initial_value=0, visible=many
        )
        self._play = gui.add_checkbox("play", False, visible=many)
        self._what = gui.add_dropdown("show", tuple(first.volumes))
        masks = any(v.mask_camera is not None for v in first.volumes.values())
        self._only_seen = gui.add_checkbox("only what cameras saw", False, visible=masks)
        self._build_words()
        self._classes = gui.add_folder("classes")
        with self._classes:
            self._key = gui.add_html("")
            self._only_found = gui.add_checkbox("only what is found", False, visible=False)
            self._all_or_none = gui.add_button_group("switch", ("all", "none"))
        self._all_or_none.on_click(lambda event: self._switch_all(event.target.value == "all"))
        with gui.add_folder("cut", expand_by_default=False):
            self._axis = gui.add_dropdown("along", _AXES)
            self._share = gui.add_slider("keep below, %", min=0, max=100, step=1, initial_value=60)
        with gui.add_folder("sensors and view", expand_by_default=False):
            self._build_view(first)
        redrawing = (self._frame, self._what, self._only_seen, self._only_found, self._axis, self._share)
        for handle in (*redrawing, self._cameras, self._camera_size, self._lidar, self._car, self._follow):
            handle.on_update(lambda event: self._try(event.client, self.redraw))

    def _build_words(self) -> None:
        gui = self.server.gui
        if self._ask is not None:
            with gui.add_form(None) as form:
                self._words = gui.add_text("look for", "", hint="any words, then Enter")
                button = gui.add_button("find")
            button.on_click(lambda _: form.submit())
            form.on_submit(lambda event: self._try(event.client, lambda: self._look_for(_typed(self._words))))
            self._best = gui.add_checkbox("the best 1 %, fitting or not", False)
            self._best.on_update(lambda event: self._try(event.client, self.redraw))
        if self._draw is not None:
            with gui.add_form(None) as form:
                prompt = gui.add_text("draw", "", hint="what the scene should hold, then Enter")
                seed = gui.add_number("seed", 0, min=0, step=1)
                button = gui.add_button("draw it")
            button.on_click(lambda _: form.submit())
            form.on_submit(
                lambda event: self._try(event.client, lambda: self._draw_scene(_typed(prompt), int(seed.value)))
            )

    def _build_view(self, first: Shown) -> None:
        gui, sample = self.server.gui, first.sample
        has_points = sample is not None and sample.points is not None
        self._cameras = gui.add_checkbox("cameras", True, visible=sample is not None)
        self._camera_size = gui.add_slider(
            "camera size, m", min=0.2, max=8.0, step=0.1, initial_value=1.2, visible=sample is not None
        )
        self._lidar = gui.add_checkbox("LiDAR", False, visible=has_points)
        self._car = gui.add_checkbox("car", True, visible=first.ego is not None)
        posed = sample is not None and sample.global_from_ego is not None and len(self.frames) > 1
        self._follow = gui.add_checkbox("follow the car", True, visible=posed)
        names = () if sample is None else sample.camera_names
        self._from = gui.add_dropdown("look", (BEHIND, ABOVE, *names))
        self._from.on_update(lambda event: self._try(event.client, lambda: self._look_from(event.client)))
        shot = gui.add_button("save a picture")
        shot.on_click(lambda event: self._try(event.client, lambda: self._save_picture(event.client)))

    def _try(self, client: viser.ClientHandle | None, action: Callable[[], None]) -> None:
        """Do something a visitor asked for; what goes wrong is said on the page and nothing ends."""
        try:
            action()
        except (OcckitError, ValueError) as error:
            if client is not None:
                client.add_notification("That did not work", str(error), color="red", auto_close_seconds=12.0)

    def _look_for(self, words: str) -> None:
        words = " ".join(words.split())
        if not words:
            raise ConfigError("say what to look for: a word or a phrase")
        self._answer_to(words, int(self._frame.value))  # what cannot be asked must leave the page as it is
        with self._lock:
            self._query = words
            self._what.options = (*self._read(int(self._frame.value)).volumes, *self._found_name())
            self._what.value = self._found_name()[0]
        self.redraw()

    def _draw_scene(self, prompt: str, seed: int) -> None:
        assert self._draw is not None
        frame = self._draw(prompt, seed)
        with self._lock:
            self.frames.append(frame)
            self._frame.max = len(self.frames) - 1
            self._frame.visible = self._play.visible = True
            self._frame.value = len(self.frames) - 1
        self.redraw()

    def _look_from(self, client: viser.ClientHandle | None) -> None:
        if client is None:
            return
        chosen, shown = self._from.value, self._read(int(self._frame.value))
        if chosen in (BEHIND, ABOVE) or shown.sample is None:
            grid = next(iter(shown.volumes.values())).grid
            client.camera.position, client.camera.look_at = eye_and_target(grid, above=chosen == ABOVE)
            return
        camera = shown.sample.cameras[0, shown.sample.camera_names.index(chosen)]
        pose = self._pose(int(self._frame.value)) @ camera.ego_from_camera.double()
        with client.atomic():
            client.camera.wxyz = quaternion_from_rotation(pose[:3, :3]).numpy()
            client.camera.position = pose[:3, 3].numpy()
            client.camera.fov = field_of_view(camera)[0]

    def _save_picture(self, client: viser.ClientHandle | None) -> None:
        if client is None:
            return
        height, width = client.camera.image_height, client.camera.image_width
        picture = client.get_render(height, width, transport_format="jpeg", timeout=60.0)
        name = f"{self._read(int(self._frame.value)).token.replace('/', '_')}.png"
        client.send_file_download(name, canvas.encode(picture))


def _typed(field: viser.GuiInputHandle[str]) -> str:
    """Return what is in a field when Enter was pressed: the last letters come a moment after the Enter."""
    time.sleep(_LAST_LETTERS)
    return field.value


def _about(shown: Shown, index: int, count: int) -> str:
    """Return the name of a frame and what is said about it, as HTML."""
    where = f"{shown.scene}, " if shown.scene else ""
    of = f" ({index + 1} of {count})" if count > 1 else ""
    lines = [f"{where}frame {shown.token}{of}", *([shown.remark] if shown.remark else [])]
    said = "".join(f"<div>{html.escape(line)}</div>" for line in lines)
    return f'<div style="font-size:.85em;padding:.3em .8em;overflow-wrap:anywhere">{said}</div>'

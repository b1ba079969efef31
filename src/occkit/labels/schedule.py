"""Which frame is looked at and fused next: the order of the label factory, whoever does the work."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from occkit.data.frames import FrameDataset
from occkit.data.occ3d import label_path
from occkit.data.selection import by_scene
from occkit.engine import Crew
from occkit.errors import DataError
from occkit.labels.fusion import FusionConfig
from occkit.labels.origins import is_made_of, joined_origin
from occkit.labels.stages import Looked, Pose, Window, has_images, points_path

LOOK, FUSE = "look", "fuse"
"""Names of the stages."""


@dataclass(kw_only=True)
class _Open:
    """A frame whose label is being made."""

    scene: str
    token: str
    others: tuple[str, ...]
    fusing: bool = False


@dataclass(kw_only=True)
class Schedule:
    """Makes the labels that are missing, in the order of the frames as far as workers leave it.

    A frame is looked at; if it can be read, so are those of its window that nobody has looked at; when all are, it is
    fused. No more frames are open at once than the crew wants, so points do not pile up when fusion is slower than the
    models, and those that no open or later frame needs are deleted.

    A label states the fingerprints of all frames of its window (`FrameDataset.fingerprint`), and is made again where
    they are others now.
    """

    dataset: FrameDataset
    """The frames."""
    folder: Path
    """Of the labels."""
    points: Path
    """Folder of the points."""
    keep_points: bool
    """Leave the points where they are."""
    images: Path | None
    """Folder of the classes of the pixels, if they are wanted."""
    fusion: FusionConfig
    """Says which frames make a window."""
    trust: bool = False
    """Take labels that are there for good, without reading the images again."""
    written: int = 0
    """Labels written."""
    kept: int = 0
    """Labels that were there."""
    changed: list[str] = field(default_factory=list[str])
    """Frames whose label was there and made of something else."""
    _skipped: dict[str, str] = field(default_factory=dict[str, str])
    _looked: dict[str, Pose | None] = field(default_factory=dict[str, "Pose | None"])
    _fingerprints: dict[str, str] = field(default_factory=dict[str, str])
    _asked: set[str] = field(default_factory=set[str])
    _to_look: deque[str] = field(default_factory=deque[str])
    _needed: Counter[str] = field(default_factory=Counter[str])
    _open: dict[str, _Open] = field(default_factory=dict[str, _Open])

    @property
    def skipped(self) -> Mapping[str, str]:
        """Frames without a label, and why, in the order of the frames."""
        return {token: self._skipped[token] for token in self.dataset.tokens if token in self._skipped}

    def run(self, crew: Crew) -> Iterator[str]:
        """Yield the token of each frame that is done: its label is there, or will not be.

        Raises:
            DataError: if frames are to be joined whose poses are unknown.
        """
        wanted, more = self._frames(), True
        while more or self._open:
            while more and len(self._open) < crew.ahead:
                frame = next(wanted, None)
                if frame is None:
                    more = False
                elif isinstance(frame, str):
                    self.kept += 1
                    yield frame
                else:
                    self._open[frame.token] = frame
            yield from self._hand_out(crew)
            if self._open:
                yield from self._take_in(crew)

    def _frames(self) -> Iterator[_Open | str]:
        """Yield frame after frame: what is to be made, or the token of one that is there."""
        history, future = self.fusion.history, self.fusion.future
        for scene, tokens in by_scene(self.dataset.tokens, self.dataset.scene).items():
            frames: list[_Open | str] = []
            now: dict[str, str] = {}
            for i, token in enumerate(tokens):
                window = tokens[max(0, i - history) : i] + tokens[i + 1 : i + future + 1]
                if self._is_there(label_path(self.folder, scene, token), (token, *window), now):
                    frames.append(token)
                    continue
                frames.append(_Open(scene=scene, token=token, others=tuple(window)))
                self._needed.update((token, *window))
            yield from frames

    def _is_there(self, path: Path, window: tuple[str, ...], now: dict[str, str]) -> bool:
        """Say whether the first frame of a window has all that is wanted; `now` remembers fingerprints of a scene."""
        token = window[0]
        if not path.is_file() or not self._has_images(token):
            return False
        if self.trust:
            return True
        for one in window:
            if one not in now:
                now[one] = self.dataset.fingerprint(one)
        if is_made_of(path, joined_origin(now[one] for one in window)):
            return True
        self.changed.append(token)
        return False

    def _has_images(self, token: str) -> bool:
        return self.images is None or has_images(self.images, token, self.dataset.camera_names)

    def _hand_out(self, crew: Crew) -> Iterator[str]:
        """Give out whatever is ready and taken up; yield frames that turn out to be over."""
        for frame in list(self._open.values()):
            if frame.token in self._skipped:
                self._close(frame)
                yield frame.token
            elif not frame.fusing and self._is_ready(frame) and crew.has_room(FUSE):
                crew.submit(FUSE, frame.token, self._window(frame))
                frame.fusing = True
        while self._to_look and crew.has_room(LOOK):
            token = self._to_look.popleft()
            crew.submit(LOOK, token, token)

    def _is_ready(self, frame: _Open) -> bool:
        """Say whether all frames of a window were looked at, and have those looked at that were not."""
        self._ask(frame.token)
        if frame.token not in self._looked:
            return False
        for other in frame.others:
            self._ask(other)
        return all(other in self._looked or other in self._skipped for other in frame.others)

    def _ask(self, token: str) -> None:
        if token not in self._asked:
            self._asked.add(token)
            self._to_look.append(token)

    def _window(self, frame: _Open) -> Window:
        others = [other for other in frame.others if other in self._looked]
        # A frame whose worker died has none: with it, the label would be another.
        known = (self._fingerprints.get(token, "lost") for token in (frame.token, *frame.others))
        return Window(
            scene=frame.scene,
            token=frame.token,
            others=tuple((other, self._between(frame.token, other)) for other in others),
            made_of=joined_origin(known),
        )

    def _between(self, token: str, other: str) -> Pose:
        pose, other_pose = self._looked[token], self._looked[other]
        if pose is None or other_pose is None:
            raise DataError(
                self.dataset.root,
                f"frame {token if pose is None else other} has no pose in the world, so frames cannot be joined",
                "add global_from_ego, or label each frame by itself (history and future 0)",
            )
        return np.linalg.inv(pose) @ other_pose

    def _take_in(self, crew: Crew) -> Iterator[str]:
        """Wait for a task to end; yield its frame if that is done."""
        outcome = crew.next()
        token = outcome.key
        if outcome.stage == LOOK:
            if outcome.lost is not None:
                self._skipped[token] = f"looking at it failed: {outcome.lost}"
            else:
                found: Looked = outcome.value
                self._fingerprints[token] = found.fingerprint
                if found.unreadable is not None:
                    self._skipped[token] = found.unreadable
                else:
                    self._looked[token] = found.pose
            return
        if outcome.lost is not None:
            self._skipped[token] = f"fusing it failed: {outcome.lost}"
        else:
            self.written += 1
        self._close(self._open[token])
        yield token

    def _close(self, frame: _Open) -> None:
        """Forget a frame that is done, and delete the points that nobody needs any more."""
        del self._open[frame.token]
        for token in (frame.token, *frame.others):
            self._needed[token] -= 1
            if self._needed[token] == 0:
                del self._needed[token]
                self._looked.pop(token, None)
                self._fingerprints.pop(token, None)
                self._asked.discard(token)
                if not self.keep_points:
                    points_path(self.points, token).unlink(missing_ok=True)

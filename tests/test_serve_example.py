"""The server example refuses what it says it refuses, over a real socket."""

import base64
import importlib
import io
import json
import runpy
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"
ask = runpy.run_path(str(EXAMPLES / "11_ask_over_http.py"))["ask"]


class FakeModel:
    """Two cameras, and an answer that says how large their images are; it waits at its gate, if it has one."""

    def __init__(self) -> None:
        self.images = {"cameras": 2}
        self.gate: threading.Event | None = None

    def inputs(self, cameras: list[dict]) -> list[dict]:
        return cameras

    def run(self, cameras: list[dict], options: object) -> np.ndarray:
        while self.gate is not None and not self.gate.wait(0.02):
            if options.terminate:
                raise RuntimeError("stopped at /home/somebody/model.onnx")
        return np.array([[camera["image"].width for camera in cameras]], np.uint8)


@pytest.fixture
def served(monkeypatch):
    """The module of the example, its model and the port of a running server."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    module = importlib.import_module("10_serve_over_http")
    model = FakeModel()
    monkeypatch.setattr(module.Handler, "model", model)
    monkeypatch.setattr(module.Handler, "log_message", lambda *args: None)
    server = module.Server(("127.0.0.1", 0), module.Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield module, model, server.server_port
    server.shutdown()
    server.server_close()
    sys.modules.pop("10_serve_over_http", None)


def image(width: int = 8, height: int = 4, kind: str = "PNG", mode: str = "RGB") -> str:
    buffer = io.BytesIO()
    Image.new(mode, (width, height)).save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def request(**changes: object) -> bytes:
    pose, matrix = np.eye(4).tolist(), [[5, 0, 4], [0, 5, 2], [0, 0, 1]]
    cameras = [{"name": name, "image": image(), "intrinsics": matrix, "ego_from_camera": pose} for name in ("a", "b")]
    cameras[0] |= changes
    return json.dumps({"cameras": cameras}).encode()


def comes_true(question: Callable[[], bool]) -> bool:
    """Ask again and again for ten seconds."""
    return any(question() or threading.Event().wait(0.05) for _ in range(200))


def test_a_good_request_is_answered_with_an_npz(served):
    _, _, port = served
    status, body = ask(port, "/predict", request())
    assert status == 200
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        assert archive["semantics"].tolist() == [[8, 8]]


def test_the_lens_reaches_the_model(served, monkeypatch):
    _, model, port = served
    seen = []
    monkeypatch.setattr(
        model, "run", lambda cameras, options: seen.append([c["distortion"].tolist() for c in cameras]) or np.zeros(1)
    )
    assert ask(port, "/predict", request(distortion=[0.1, 0.2, 0.3, 0.4]))[0] == 200
    assert seen == [[[0.1, 0.2, 0.3, 0.4], []]]


def test_a_model_that_fails_is_the_servers_fault_and_leaves_no_clock_running(served, monkeypatch):
    _, model, port = served
    monkeypatch.setattr(model, "run", lambda cameras, options: 1 / 0)
    assert ask(port, "/predict", request()) == (500, b"the model failed")
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_a_model_that_takes_too_long_is_stopped(served, monkeypatch):
    module, model, port = served
    monkeypatch.setattr(module, "MODEL_SECONDS", 0.2)
    model.gate = threading.Event()
    assert ask(port, "/predict", request()) == (503, b"stopped: too long")
    model.gate = None
    assert ask(port, "/predict", request())[0] == 200


def test_more_callers_than_there_is_room_for_are_not_listened_to(served, monkeypatch):
    module, _, port = served
    monkeypatch.setattr(module, "MAX_CALLERS", threading.active_count() + 2)
    silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(2)]

    def listened_to() -> bool:
        try:
            return ask(port, "/predict", request())[0] == 200
        except ConnectionError:
            return False

    assert comes_true(lambda: not listened_to())
    for connection in silent:
        connection.close()
    assert comes_true(listened_to)


@pytest.mark.parametrize(
    "path", ["/", "/predict/", "/predict/../x", "/../../etc/passwd", "/%2e%2e/secret", "/predict?x=1"]
)
def test_other_paths_are_refused(served, path):
    _, _, port = served
    status, body = ask(port, path, request())
    assert status == 404
    assert b"root" not in body


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../../a"},
        {"name": "a/b"},
        {"name": "a\u0000"},
        {"name": ""},
        {"name": "a" * 65},
        {"image": "../../etc/passwd"},
        {"image": image(8192, 4096, mode="1")},
        {"image": image(kind="GIF")},
        {"image": image(10, 1_000_000, mode="1")},
        {"distortion": [0.1, 0.2]},
        {"distortion": [float("nan")] * 4},
        {"distortion": "none"},
        {"image": image()[:40]},
        {"intrinsics": [[float("nan"), 0, 4], [0, 5, 2], [0, 0, 1]]},
        {"intrinsics": [[-5, 0, 4], [0, 5, 2], [0, 0, 1]]},
        {"intrinsics": [[5, 0], [0, 5]]},
        {"ego_from_camera": (2 * np.eye(4)).tolist()},
        {"ego_from_camera": "here"},
    ],
)
def test_hostile_values_are_refused_and_the_server_goes_on(served, changes):
    _, _, port = served
    assert ask(port, "/predict", request(**changes))[0] == 400
    assert ask(port, "/predict", request())[0] == 200


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"cameras": []}', b"[" * 100_000, b"\xff\xfe", b'{"cameras": 3}']
)
def test_what_is_no_request_is_refused(served, body):
    _, _, port = served
    assert ask(port, "/predict", body)[0] == 400


def test_a_body_is_not_read_before_its_length_is_judged(served):
    module, _, port = served
    assert ask(port, "/predict", b"", module.MAX_BYTES + 1)[0] == 413
    assert ask(port, "/predict", b"", 10**30)[0] == 411
    assert ask(port, "/predict", b"x", -5)[0] == 411
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert b" 411 " in raw.recv(100)


@pytest.mark.parametrize("sent", [b"POST /pre", b"POST /predict HTTP/1.1\r\nHost: x\r\n"])
def test_headers_that_come_slowly_are_cut_off(served, monkeypatch, sent):
    module, _, port = served
    monkeypatch.setattr(module, "READ_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        raw.sendall(sent)

        def cut_off() -> bool:
            try:
                raw.sendall(b"a")  # each read is quick; all of them together are not
            except ConnectionError:
                return True
            return False

        assert comes_true(cut_off)


def test_bodies_that_come_slowly_are_cut_off_and_keep_no_place(served, monkeypatch):
    module, _, port = served
    monkeypatch.setattr(module, "READ_SECONDS", 1.0)
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
    slow = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(2 * module.MAX_PREDICTIONS)]
    for connection in slow:
        connection.sendall(head)
    assert ask(port, "/predict", request())[0] == 200
    for connection in slow:
        with connection:
            assert b" 408 " in connection.recv(100)


def test_too_many_predictions_at_a_time_are_refused(served):
    module, model, port = served
    model.gate = threading.Event()
    found: list[int] = []
    waiting = [threading.Thread(target=lambda: found.append(ask(port, "/predict", request())[0])) for _ in range(2)]
    for thread in waiting:
        thread.start()
    # Both have their place once a third finds none.
    status = 0
    for _ in range(200):
        probe = module.Handler.places.acquire(blocking=False)
        if not probe:
            status = ask(port, "/predict", request())[0]
            break
        module.Handler.places.release()
        waiting[0].join(0.05)
    model.gate.set()
    for thread in waiting:
        thread.join(30)
    assert status == 503
    assert found == [200, 200]

"""10: an exported model behind HTTP, for callers who are not to be trusted.

    python examples/10_serve_over_http.py --out served --model model.onnx --port 8000

What you learn
    A request carries everything (POST /predict, JSON: a rig.json whose `image` is base64), so no name in it becomes a
    path. Bytes, pixels, seconds and callers are limited before they are spent: the length is read before the body, an
    image's size before its pixels. Until Ctrl-C it listens, on this machine alone: a proxy encrypts and asks who it is.

What comes out
    requests.log  a line a request: when, what was asked, and the status of the answer
"""

import argparse
import base64
import importlib
import io
import json
import re
import socket
import threading
import time
from contextlib import redirect_stderr, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

MAX_BYTES, MAX_PIXELS, MAX_CALLERS, MAX_PREDICTIONS, READ_SECONDS, MODEL_SECONDS = 2**24, 2**24, 32, 2, 10.0, 20.0


def check(camera: dict) -> dict:
    """Return one camera of a request with its image decoded."""
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", str(camera["name"])):
        raise ValueError("name: expected 1 to 64 letters, digits, _ and -")
    image = Image.open(io.BytesIO(base64.b64decode(camera["image"], validate=True)), formats=("PNG", "JPEG"))
    if image.width * image.height > MAX_PIXELS or image.height > 4 * image.width:  # a thin one grows when it is scaled
        raise ValueError(f"image of {camera['name']}: over {MAX_PIXELS} pixels, or four times as high as wide")
    sizes = {"intrinsics": ((3, 3),), "ego_from_camera": ((4, 4),), "distortion": ((0,), (4,), (5,), (8,))}
    arrays = {key: np.array(camera.get(key) or (), np.float64) for key in sizes}
    for key, allowed in sizes.items():
        if arrays[key].shape not in allowed or not (np.abs(arrays[key]) < 1e5).all():  # NaN is not less than anything
            raise ValueError(f"{key} of {camera['name']}: expected numbers of shape {' or '.join(map(str, allowed))}")
    turn, focal = arrays["ego_from_camera"][:3, :3], arrays["intrinsics"][[0, 1], [0, 1]]
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or focal.min() <= 0:
        raise ValueError(f"{camera['name']}: expected a rotation and positive focal lengths")
    return arrays | {"image": image.convert("RGB")}


class Server(ThreadingHTTPServer):
    """A thread a caller, and no more than so many."""

    def verify_request(self, request: object, address: object) -> bool:
        """Say whether to listen at all."""
        return threading.active_count() < MAX_CALLERS


class Deadline(socket.SocketIO):
    """What a caller sends, headers and body, until the caller's time is up."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection, "r")
        self.connection, self.end = connection, time.monotonic() + READ_SECONDS

    def readinto(self, buffer: memoryview) -> int:
        """Read what has come, and wait for it no longer than the time that is left."""
        self.connection.settimeout(max(self.end - time.monotonic(), 1e-6))
        return super().readinto(buffer)


class Handler(BaseHTTPRequestHandler):
    """One request: its path and length are judged before its body is read, and its body before the model runs."""

    model, places = None, threading.BoundedSemaphore(MAX_PREDICTIONS)

    def setup(self) -> None:
        """Give the caller so many seconds for all that is to be sent."""
        super().setup()
        self.rfile = io.BufferedReader(Deadline(self.connection))

    def do_POST(self) -> None:
        """Answer a request with a volume, or with a reason."""
        status, body = 408, b"too slow"
        with suppress(TimeoutError):
            status, body = self.answer()
        self.close_connection = True  # a body that was not read must not pass for the next request
        self.connection.settimeout(READ_SECONDS)
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/predict":
            return 404, b"there is POST /predict and nothing else"
        if not re.fullmatch("[0-9]{1,12}", length) or "Transfer-Encoding" in self.headers:
            return 411, b"state the Content-Length"
        if int(length) > MAX_BYTES:
            return 413, b"too many bytes"
        body = self.rfile.read(int(length))
        if not self.places.acquire(blocking=False):  # only now: who sends slowly keeps no one from predicting
            return 503, b"busy; try again"
        try:
            return self.predict(body)
        finally:
            self.places.release()

    def predict(self, body: bytes) -> tuple[int, bytes]:
        """Return an npz; a model that takes too long is stopped."""
        try:
            cameras = json.loads(body)["cameras"]
            if len(cameras) != self.model.images["cameras"]:
                raise ValueError(f"expected {self.model.images['cameras']} cameras, got {len(cameras)}")
            inputs = self.model.inputs([check(camera) for camera in cameras])
        except Exception as error:  # whatever was sent: a reason for the sender, and the server goes on
            return 400, f"{type(error).__name__}: {error}"[:200].encode()
        options, buffer = onnxruntime.RunOptions(), io.BytesIO()
        timer = threading.Timer(MODEL_SECONDS, setattr, (options, "terminate", True))
        timer.start()
        try:
            np.savez_compressed(buffer, semantics=self.model.run(inputs, options))
        except Exception as error:  # the server's own fault: the reason is for its log
            self.log_error("the model: %s", error)
            return (503, b"stopped: too long") if options.terminate else (500, b"the model failed")
        finally:
            timer.cancel()
        return 200, buffer.getvalue()


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="see the top of this file")
    for name in ("--out", "--model"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    Handler.model = importlib.import_module("09_infer_without_torch").Model(args.model)
    server = Server(("127.0.0.1", args.port), Handler)
    print(f"POST http://127.0.0.1:{server.server_port}/predict", flush=True)
    with (args.out / "requests.log").open("a", 1) as log, redirect_stderr(log), suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()

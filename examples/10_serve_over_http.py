"""10: an exported model behind HTTP, for callers who are not to be trusted.

    python examples/10_serve_over_http.py --out served --model model.onnx --rig rig.json

What you learn
    A request carries everything (POST /predict, JSON: a rig.json whose `image` is base64), so no name in it becomes a
    path. Bytes, pixels, seconds and callers are limited before they are spent: the length is read before the body, an
    image's size before its pixels. It listens on this machine alone; a proxy before it encrypts and asks who is there.
    With --port 8000 it serves there until Ctrl-C; without, it asks itself.

What comes out
    answers.json  what the server says to a good request, a hostile path, too large a body, and pixels without end
    answer.npz    what comes back for the good one: `semantics`, uint8 [x, y, z]
"""

import argparse
import base64
import http.client
import importlib
import io
import json
import re
import socket
import threading
import time
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
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"image of {camera['name']}: more than {MAX_PIXELS} pixels")
    if image.height > 4 * image.width:  # scaled to the model's width, a thin image would become a huge one
        raise ValueError(f"image of {camera['name']}: more than four times as high as wide")
    arrays = {key: np.array(camera[key], np.float64) for key in ("intrinsics", "ego_from_camera")}
    for key, size in (("intrinsics", 3), ("ego_from_camera", 4)):
        if arrays[key].shape != (size, size) or not np.abs(arrays[key]).max() < 1e5:  # NaN is not less than anything
            raise ValueError(f"{key} of {camera['name']}: expected {size} x {size} numbers")
    turn, focal = arrays["ego_from_camera"][:3, :3], arrays["intrinsics"][[0, 1], [0, 1]]
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or focal.min() <= 0:
        raise ValueError(f"{camera['name']}: expected a rotation and positive focal lengths")
    lens = np.array(camera.get("distortion") or (), np.float64)
    if lens.ndim != 1 or len(lens) not in (0, 4, 5, 8) or not (np.abs(lens) < 1e5).all():
        raise ValueError(f"distortion of {camera['name']}: expected 4, 5 or 8 numbers, or none")
    return arrays | {"image": image.convert("RGB"), "distortion": lens.tolist()}


class Server(ThreadingHTTPServer):
    """A thread a caller, and no more than so many."""

    def verify_request(self, request: object, address: object) -> bool:
        """Say whether to listen at all."""
        return threading.active_count() < MAX_CALLERS


class Deadline(io.RawIOBase):
    """What a caller sends, headers and body, until the caller's time is up."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.end = connection, time.monotonic() + READ_SECONDS

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: memoryview) -> int:
        """Read what has come, and wait for it no longer than the time that is left."""
        if (left := self.end - time.monotonic()) <= 0:
            raise TimeoutError
        self.connection.settimeout(left)
        return self.connection.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """One request: its path and length are judged before its body is read, and its body before the model runs."""

    model, places = None, threading.BoundedSemaphore(MAX_PREDICTIONS)

    def setup(self) -> None:
        """Give the caller so many seconds for all that is to be sent."""
        super().setup()
        self.rfile = io.BufferedReader(Deadline(self.connection))

    def do_POST(self) -> None:
        """Answer a request with a volume, or with a reason."""
        try:
            status, body = self.answer()
        except TimeoutError:
            status, body = 408, b"too slow"
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


def ask(port: int, path: str, body: bytes, length: int | None = None) -> tuple[int, bytes]:
    """Send a request whose stated length may be a lie; return status and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, body, {"Content-Length": str(len(body) if length is None else length)})
    return (answer := connection.getresponse()).status, answer.read()


def main() -> None:
    """Serve, or start a server and ask it."""
    parser = argparse.ArgumentParser(description="see the top of this file")
    for name in ("--out", "--model", "--rig"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--port", type=int, default=0, help="serve here until Ctrl-C")
    args = parser.parse_args()
    Handler.model = importlib.import_module("09_infer_without_torch").Model(args.model)
    server = Server(("127.0.0.1", args.port), Handler)
    print(f"POST http://127.0.0.1:{(port := server.server_port)}/predict", flush=True)
    if args.port:
        server.serve_forever()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rig = json.loads(args.rig.read_text())
    for camera in rig["cameras"]:
        camera["image"] = base64.b64encode((args.rig.parent / camera["image"]).read_bytes()).decode()
    good, bomb = json.dumps(rig).encode(), io.BytesIO()
    Image.new("1", (5000, 5000)).save(bomb, "PNG")  # 3 kB that would be 75 MB
    rig["cameras"][0]["image"] = base64.b64encode(bomb.getvalue()).decode()
    asked = {"good": ("/predict", good), "path": ("/../../etc/passwd", b""), "bytes": ("/predict", b"", 10**10)}
    answers = {n: ask(port, *a) for n, a in {**asked, "pixels": ("/predict", json.dumps(rig).encode())}.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "answer.npz").write_bytes(answers["good"][1])
    said = {name: [status, body[:200].decode("latin-1")] for name, (status, body) in answers.items()}
    (args.out / "answers.json").write_text(json.dumps(said, indent=1))
    print({name: status for name, (status, _) in answers.items()})


if __name__ == "__main__":
    main()

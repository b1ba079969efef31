"""11: ask the server of example 10 for the scene around a car, and for what it must not give.

    python examples/11_ask_over_http.py --out asked --model model.onnx --rig rig.json
    python examples/11_ask_over_http.py --out asked --port 8000 --rig rig.json

What you learn
    How a request is made of a rig.json: its images go along as base64. With --port a server is asked that runs there;
    with --model one is started, asked and stopped. A good request is followed by three that nobody should answer: a
    path out of the server's folder, more bytes than it takes, and an image of 3 kB that would be 75 MB of pixels.

What comes out
    answers.json  the status and the beginning of each answer
    answer.npz    what comes back for the good request: `semantics`, uint8 [x, y, z]
"""

import argparse
import base64
import http.client
import io
import json
import subprocess
import sys
from pathlib import Path

from PIL import Image


def ask(port: int, path: str, body: bytes, length: int | None = None) -> tuple[int, bytes]:
    """Send a request whose stated length may be a lie; return status and body of the answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, body, {"Content-Length": str(len(body) if length is None else length)})
    answer = connection.getresponse()
    return answer.status, answer.read()


def request(rig: dict, images: list[bytes]) -> bytes:
    """Return the body of a request: the rig, with its images in it."""
    encoded = [base64.b64encode(image).decode() for image in images]
    cameras = [camera | {"image": image} for camera, image in zip(rig["cameras"], encoded, strict=True)]
    return json.dumps({"cameras": cameras}).encode()


def ask_all(port: int, rig_file: Path) -> dict[str, tuple[int, bytes]]:
    """Return the answer to a good request and to three bad ones."""
    rig = json.loads(rig_file.read_text())
    images = [(rig_file.parent / camera["image"]).read_bytes() for camera in rig["cameras"]]
    bomb = io.BytesIO()
    Image.new("1", (5000, 5000)).save(bomb, "PNG")
    return {
        "good": ask(port, "/predict", request(rig, images)),
        "path": ask(port, "/../../etc/passwd", b""),
        "bytes": ask(port, "/predict", b"", 10**10),
        "pixels": ask(port, "/predict", request(rig, [bomb.getvalue(), *images[1:]])),
    }


def main() -> None:
    """Ask a server that runs already, or one of our own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--out", "--rig"):
        parser.add_argument(name, type=Path, required=True)
    server = parser.add_mutually_exclusive_group(required=True)
    server.add_argument("--model", type=Path)
    server.add_argument("--port", type=int)
    args = parser.parse_args()
    if args.model:
        program = Path(__file__).with_name("10_serve_over_http.py")
        command = [sys.executable, str(program), "--out", str(args.out), "--model", str(args.model), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as serving:
            try:
                # Its first line says where it listens: POST http://127.0.0.1:PORT/predict
                port = int(serving.stdout.readline().rpartition(":")[2].partition("/")[0])
                answers = ask_all(port, args.rig)
            finally:
                serving.terminate()
    else:
        answers = ask_all(args.port, args.rig)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "answer.npz").write_bytes(answers["good"][1])
    said = {name: [status, body[:200].decode("latin-1")] for name, (status, body) in answers.items()}
    (args.out / "answers.json").write_text(json.dumps(said, indent=1))
    print({name: status for name, (status, _) in answers.items()})


if __name__ == "__main__":
    main()

"""A small application whose state can be seen: a counter in memory, a file on disk, lifecycle hooks."""

import itertools
import os
import socket
import ssl
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flask import Flask, jsonify, request
from werkzeug.serving import make_server

PORT = 8080
HOOK_PORT = 9000
HOOKS = ("ready", "validate", "run", "resume", "suspend", "terminate")
LOG = Path("/data/requests.log")

drawer = ThreadPoolExecutor(1)  # OpenSSL has a generator for each thread: this one's began before the snapshot


def draw() -> str:
    return drawer.submit(ssl.RAND_bytes, 8).result().hex()


BOOT = draw()  # made once, before the snapshot: every microVM of the image shows the same

app = Flask("app")
hooks = Flask("hooks")

lock = threading.Lock()
numbers = itertools.count(1)
ballast: list[bytearray] = []
warm = threading.Event()


@app.get("/")
def index():
    with lock:
        number = next(numbers)
        with LOG.open("a") as log:
            log.write(f"request {number}\n")
        lines = len(LOG.read_text().splitlines())
    return jsonify(
        count=number,
        file=lines,
        hostname=socket.gethostname(),
        pid=os.getpid(),
        boot=BOOT,
        random=draw(),
        time=time.time(),
    )


@app.get("/env")
def environment():
    return jsonify({name: value for name, value in os.environ.items() if name.startswith("AWS_")})


@app.get("/dirty")
def dirty():
    """Keep some more memory in use, every page of it written to."""
    mib = request.args.get("mib", 1, type=int)
    block = bytearray(mib << 20)
    block[::4096] = b"\x01" * (mib * 256)
    ballast.append(block)
    return jsonify(dirtied_mib=mib, held_mib=sum(map(len, ballast)) >> 20)


@app.post("/exit")
def leave():
    """End the main process, and with it the microVM, once the answer is on its way."""
    code = request.args.get("code", 0, type=int)
    answer = jsonify(exit_code=code)
    answer.call_on_close(threading.Timer(0.2, os._exit, [code]).start)
    return answer


@hooks.post("/aws/lambda-microvms/runtime/v1/<name>")
def hook(name: str):
    if name not in HOOKS:
        return jsonify(error=f"there is no hook {name}"), 404
    if name == "ready" and not warm.is_set():
        return jsonify(status="warming up"), 503  # asked again until it is 200 or the time is over
    print(f"hook {name}", flush=True)
    return jsonify(status="ok")


def warm_up() -> None:
    """Answer some requests, so that the snapshot holds the code for it ready: CPython specialises what runs often."""
    for _ in range(20):
        urllib.request.urlopen(f"http://127.0.0.1:{PORT}/env").read()
    warm.set()


if __name__ == "__main__":
    server = make_server("0.0.0.0", PORT, app, threaded=True)
    hook_server = make_server("127.0.0.1", HOOK_PORT, hooks, threaded=True)
    threading.Thread(target=hook_server.serve_forever, daemon=True).start()
    threading.Thread(target=warm_up, daemon=True).start()
    print(f"listening on {PORT}, hooks on {HOOK_PORT}", flush=True)
    server.serve_forever()

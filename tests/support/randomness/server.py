"""Long-lived processes of several languages that draw random numbers: some before the snapshot, more when asked."""

import json
import mmap
import os
import secrets
import ssl
import subprocess
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMANDS = (
    ["node", "draw.js"],
    ["ruby", "draw.rb"],
    ["php", "draw.php"],
    ["perl", "draw.pl"],
    [
        "java",
        "-Xshare:auto",
        "-XX:TieredStopAtLevel=1",
        "-cp",
        "/usr/share/java/bsh.jar",
        "bsh.Interpreter",
        "draw.bsh",
    ],
)
BYTES = 16

children = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for command in COMMANDS]
SYSGENID = Path("/dev/sysgenid")
if SYSGENID.exists():
    with SYSGENID.open("rb") as file:
        generation = mmap.mmap(file.fileno(), 4, access=mmap.ACCESS_READ)
else:
    generation = bytes(4)


def draw() -> dict[str, str]:
    """Let everyone draw: the name of a generator, and what it gave."""
    drawn = {
        "python getrandom": os.getrandom(BYTES).hex(),
        "python secrets": secrets.token_hex(BYTES),
        "python uuid4": uuid.uuid4().hex,
        "python RAND_bytes": ssl.RAND_bytes(BYTES).hex(),
    }
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        drawn |= json.loads(child.stdout.readline())
    return drawn


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        answer = {"drawn": draw(), "generation": int.from_bytes(generation[:4], "little")}
        if self.path == "/before":
            answer = {"drawn": before}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()  # the /ready hook: by the time that this listens, everyone has drawn


before = draw()
for _ in range(3):
    draw()
ThreadingHTTPServer(("", 8080), Handler).serve_forever()

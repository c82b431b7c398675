"""What a test's image runs, in a RUN step and in a guest: a TLS server, and clients that have to trust it.

    python3 trust_probe.py CERTIFICATE-AND-KEY

Prints a line `NAME trusts` or `NAME: why not` for each client, and ends with 1 unless all trust.
"""

from __future__ import annotations

import http.server
import ssl
import subprocess
import sys
import threading
import urllib.request

PACKAGES = "curl nodejs python3-pip python3-requests"
CLIENTS = {
    "curl": ("curl", "--fail", "--silent", "--show-error", "{url}"),
    "requests": ("python3", "-c", "import requests, sys; requests.get(sys.argv[1]).raise_for_status()", "{url}"),
    "pip": ("python3", "-m", "pip", "download", "--no-deps", "--index-url", "{url}", "--dest", "/tmp", "nothing"),
    "node": ("node", "-e", "require('https').get(process.argv[1], answer => answer.resume())", "{url}"),
}
"""npm is a program of Node's, and is as trusting as that; it is left out as it comes with hundreds of packages."""

REACHED = {"pip": "No matching distribution"}
"""Words of a client's output that tell that it has spoken to the server, where it fails of something else then."""


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers all."""

    def do_GET(self) -> None:
        """Answer with a page that has nothing in it."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"<html>")

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


def serve(certificate: str) -> str:
    """Start the server; return its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"https://127.0.0.1:{server.server_port}/"


def ask(name: str, url: str) -> str:
    """Let a client speak to the server; return why it did not trust it, or nothing."""
    command = [word.format(url=url) for word in CLIENTS[name]]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    return "" if done.returncode == 0 or (name in REACHED and REACHED[name] in said) else said.strip()[-500:]


def ask_by_urllib(url: str) -> str:
    """Do the same with Python's ssl."""
    try:
        urllib.request.urlopen(url).close()
    except OSError as error:
        return str(error)
    return ""


def main(certificate: str) -> int:
    """Ask with every client."""
    url = serve(certificate)
    found = {"ssl": ask_by_urllib(url), **{name: ask(name, url) for name in CLIENTS}}
    for name, problem in found.items():
        sys.stdout.write(f"{name}: {problem}\n" if problem else f"{name} trusts\n")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

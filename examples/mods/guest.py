"""Runs one mod: takes its source once, then the game's state at each tick, and answers with the mod's move."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

mod: dict = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            status, answer = 200, self.answer(body)
        except Exception as error:
            status, answer = 500, repr(error)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def answer(self, body):
        if self.path == "/mod":
            return exec(compile(body, "mod.py", "exec"), mod)  # noqa: S102 -- this is what the microVM is for
        return mod["move"](json.loads(body))

    def log_message(self, *arguments):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()

"""An application in a microVM: it answers on port 8080, and hears on port 9000 what becomes of its microVM."""

import http.server
import json
import secrets
import threading

PORT = 8080
HOOK_PORT = 9000
HOOKS = "/aws/lambda-microvms/runtime/v1/"

STARTED = secrets.token_hex(4)  # drawn before the snapshot: all microVMs of the image have it
state = {"microvm": None, "payload": None, "launch": None, "hooks": []}
connections = {}  # what must not be shared by microVMs: opened in run(), not here


def run(body):
    """The microVM has been launched from the snapshot: from here on it is alone."""
    state.update(microvm=body["microvmId"], payload=body.get("runHookPayload"), launch=secrets.token_hex(4))


def suspend(_body):
    """It is about to be suspended: write down what must not be lost, and close what will not be there any more."""
    connections.clear()


def resume(_body):
    """It goes on, perhaps hours later."""


def terminate(_body):
    """It ends."""


CALLED = {"ready": lambda _body: None, "run": run, "suspend": suspend, "resume": resume, "terminate": terminate}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def read(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self, status, value):
        content = json.dumps(value, indent=2).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


class Application(Handler):
    def do_GET(self):
        self.answer(200, {"hello": "from a microVM", "started": STARTED, "random": secrets.token_hex(4), **state})


class Hooks(Handler):
    def do_POST(self):
        name, body = self.path.removeprefix(HOOKS), self.read()
        if name not in CALLED:
            self.answer(404, {"error": f"there is no hook {name}"})
            return
        CALLED[name](json.loads(body) if body else {})
        state["hooks"].append(name)
        print(f"hook {name}")
        self.answer(200, {})


if __name__ == "__main__":
    hooks = http.server.ThreadingHTTPServer(("127.0.0.1", HOOK_PORT), Hooks)
    threading.Thread(target=hooks.serve_forever, daemon=True).start()
    print(f"listening on {PORT}, hooks on {HOOK_PORT}")
    http.server.ThreadingHTTPServer(("", PORT), Application).serve_forever()

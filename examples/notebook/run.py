"""A notebook with data frames: Jupyter in a microVM, whose kernel is the same after a suspend.

python examples/notebook/run.py [--away 3600] [--keep]
"""

import argparse
import json
import time
import uuid
from pathlib import Path

from websockets.sync.client import connect

from emberbox_sdk import Config, Image, Sandbox

HERE = Path(__file__).parent
PORT = 8080

LOAD = """
import os, pandas, numpy
table = pandas.DataFrame({"city": ["Bern", "Oslo", "Rome"] * %d, "sold": numpy.arange(3 * %d)})
begun = os.getpid()
f"{len(table)} rows"
"""
ASK = "[os.getpid() == begun, begun, len(table), int(table.groupby('city').sold.sum()['Oslo'])]"


class Kernel:
    """A kernel of Jupyter's, spoken to as its page does: over HTTP, and a WebSocket for each piece of code."""

    def __init__(self, port, config):
        self.port = port
        self.config = config
        guard = self.cookie("_xsrf")  # Jupyter wants it back in a header with whatever changes something
        answer = port.post("/api/kernels", headers={"Cookie": f"_xsrf={guard}", "X-XSRFToken": guard}, json={})
        answer.raise_for_status()
        self.id = answer.json()["id"]

    def cookie(self, name):
        answer = self.port.wait(path="/tree")
        answer.raise_for_status()
        return answer.cookies[name]

    def run(self, code):
        """Return the value of the code's last line, as the page shows it."""
        number, value = uuid.uuid4().hex, ""
        header = {"msg_id": number, "msg_type": "execute_request", "session": number, "username": "", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "channel": "shell", "content": content}
        with self.open() as socket:
            socket.send(json.dumps(message))
            while True:
                heard = json.loads(socket.recv(timeout=300))
                if heard["parent_header"].get("msg_id") != number:
                    continue
                content = heard["content"]
                if heard["msg_type"] == "execute_result":
                    value = content["data"]["text/plain"]
                elif heard["msg_type"] == "error":
                    raise RuntimeError("\n".join(content["traceback"]))
                elif heard["msg_type"] == "status" and content["execution_state"] == "idle":
                    return value

    def open(self):
        url = f"{self.port.url.replace('https', 'wss', 1)}api/kernels/{self.id}/channels"
        return connect(url, ssl=self.config.tls(), additional_headers=self.port.headers(), proxy=None, open_timeout=120)


def main(options):
    config = Config.from_environment()
    watch = Watch()
    image = Image.build(HERE, name="example-notebook", memory_mib=1024, config=config)
    watch.tell("image", f"{image.name} {image.version}")
    with Sandbox.create(image, max_s=8 * 3600, config=config) as sandbox:
        port = sandbox.url(PORT)
        watch.tell("launch", sandbox.id)
        kernel = Kernel(port, config)
        watch.tell("kernel", kernel.id)
        watch.tell("load", kernel.run(LOAD % (options.rows, options.rows)))
        before = kernel.run(ASK)
        watch.tell("before", before)
        sandbox.suspend()
        watch.tell("suspend", "saved to the disk; no memory and no processor is used")
        time.sleep(options.away)
        watch.tell("away", f"{options.away:g} s")
        sandbox.resume()
        watch.tell("resume", sandbox.id)
        after = kernel.run(ASK)
        watch.tell("after", after)
        print(f"page      {port.link()}")
        if options.out:
            facts = {"microvm": sandbox.id, "kernel": kernel.id, "before": before, "after": after}
            options.out.write_text(json.dumps(facts))
        if options.keep:
            input("Return ends it. ")


class Watch:
    def __init__(self):
        self.since = time.monotonic()

    def tell(self, step, what):
        now = time.monotonic()
        print(f"{step:9} {now - self.since:6.2f} s  {what}", flush=True)
        self.since = now


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Work with a data frame in Jupyter, over a suspend.")
    parser.add_argument("--rows", type=int, default=1_000_000, help="a third of the table's")
    parser.add_argument("--away", type=float, default=0, metavar="S", help="seconds that it stays suspended")
    parser.add_argument("--keep", action="store_true", help="leave it running until Return is pressed")
    parser.add_argument("--out", type=Path, help="a file for the result")
    main(parser.parse_args())

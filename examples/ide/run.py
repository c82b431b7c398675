"""An IDE in the browser: VS Code in a microVM, whose files and whose open terminal are the same after a suspend.

python examples/ide/run.py [--away 3600] [--keep]
"""

import argparse
import json
import time
from pathlib import Path

from terminal import Terminal

from emberbox_sdk import Config, Image, Sandbox

HERE = Path(__file__).parent
PORT = 8080
PROJECT = "/home/somebody/project"
NOTES = "# Notes\n\nWritten before the suspend.\n"

BEGIN = "fruit=quince; python3 count.py > counted & until [ -s counted ]; do sleep 0.1; done"
ASK = 'echo "<$$ $fruit $! $(kill -0 $! && tail -n 1 counted)>"'
ANSWER = r"<(\d[^<>$]*)>"  # which the line itself, as the terminal shows it, is not


def main(options):
    config = Config.from_environment()
    watch = Watch()
    image = Image.build(HERE, name="example-ide", memory_mib=2048, config=config)
    watch.tell("image", f"{image.name} {image.version}")
    with Sandbox.create(image, max_s=8 * 3600, config=config) as sandbox:
        port = sandbox.url(PORT)
        watch.tell("launch", sandbox.id)
        page = read_page(port)
        watch.tell("page", f"{len(page)} characters")
        sandbox.files.write(f"{PROJECT}/notes.md", NOTES)
        watch.tell("file", f"{PROJECT}/notes.md")
        terminal = open_terminal(port, page, config)
        watch.tell("terminal", f"number {terminal.number}")
        before = terminal.run(f"{BEGIN}; {ASK}", ANSWER)
        watch.tell("before", before)
        sandbox.suspend()
        watch.tell("suspend", "saved to the disk; no memory and no processor is used")
        time.sleep(options.away)
        watch.tell("away", f"{options.away:g} s")
        sandbox.resume()
        watch.tell("resume", sandbox.id)
        page = read_page(port)
        watch.tell("page", f"{len(page)} characters")
        notes = sandbox.files.read(f"{PROJECT}/notes.md")
        watch.tell("file", "the same" if notes == NOTES else "another")
        terminal.close()
        terminal = open_terminal(port, page, config, terminal.number)
        watch.tell("terminal", f"number {terminal.number}")
        after = terminal.run(ASK, ANSWER)
        watch.tell("after", after)
        terminal.close()
        print(f"link      {port.link()}")
        if options.out:
            facts = {"microvm": sandbox.id, "notes": notes, "before": before, "after": after}
            options.out.write_text(json.dumps(facts))
        if options.keep:
            input("Return ends it. ")


def read_page(port):
    answer = port.wait(path=f"/?folder={PROJECT}")
    answer.raise_for_status()
    return answer.text


def open_terminal(port, page, config, number=None):
    url = port.url.replace("https", "wss", 1)
    return Terminal(url, page, PROJECT, number, ssl=config.tls(), additional_headers=port.headers(), open_timeout=120)


class Watch:
    def __init__(self):
        self.since = time.monotonic()

    def tell(self, step, what):
        now = time.monotonic()
        print(f"{step:9} {now - self.since:6.2f} s  {what}", flush=True)
        self.since = now


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Work in VS Code and a terminal of it, over a suspend.")
    parser.add_argument("--away", type=float, default=0, metavar="S", help="seconds that it stays suspended")
    parser.add_argument("--keep", action="store_true", help="leave it running until Return is pressed")
    parser.add_argument("--out", type=Path, help="a file for the result")
    main(parser.parse_args())

// A small application whose state can be seen: a counter in memory, a file on disk, and the lifecycle hooks.
"use strict";

const crypto = require("crypto");
const express = require("express");
const fs = require("fs");
const http = require("http");
const os = require("os");

const PORT = 8080;
const HOOK_PORT = 9000;
const HOOKS = ["ready", "validate", "run", "resume", "suspend", "terminate"];
const LOG = "/data/requests.log";

const randomHex = (bytes) => crypto.randomBytes(bytes).toString("hex");
const BOOT = randomHex(8); // made once, before the snapshot: every microVM of the image shows the same

let count = 0;
let warm = false;
const ballast = [];

const app = express();

app.get("/", (request, response) => {
  count += 1;
  fs.appendFileSync(LOG, `request ${count}\n`);
  response.json({
    count,
    file: fs.readFileSync(LOG, "utf8").trimEnd().split("\n").length,
    hostname: os.hostname(),
    pid: process.pid,
    boot: BOOT,
    random: randomHex(8),
    time: Date.now() / 1000,
  });
});

app.get("/env", (request, response) => {
  response.json(Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith("AWS_"))));
});

// Keep some more memory in use, every page of it written to.
app.get("/dirty", (request, response) => {
  const mib = Number.parseInt(request.query.mib ?? "1", 10);
  ballast.push(Buffer.alloc(mib * 1024 * 1024, 1));
  response.json({ dirtied_mib: mib, held_mib: ballast.reduce((sum, block) => sum + block.length, 0) / 1048576 });
});

// End the main process, and with it the microVM, once the answer is on its way.
app.post("/exit", (request, response) => {
  const code = Number.parseInt(request.query.code ?? "0", 10);
  response.on("finish", () => setTimeout(() => process.exit(code), 200));
  response.json({ exit_code: code });
});

const hooks = express();

hooks.post("/aws/lambda-microvms/runtime/v1/:name", (request, response) => {
  const name = request.params.name;
  if (!HOOKS.includes(name)) {
    response.status(404).json({ error: `there is no hook ${name}` });
  } else if (name === "ready" && !warm) {
    response.status(503).json({ status: "warming up" }); // asked again until it is 200 or the time is over
  } else {
    console.log(`hook ${name}`);
    response.json({ status: "ok" });
  }
});

// Go once through the code that answers requests, so that the snapshot holds it ready.
function warmUp() {
  http.get({ host: "127.0.0.1", port: PORT, path: "/env" }, (answer) => {
    answer.resume();
    answer.on("end", () => {
      warm = true;
    });
  });
}

hooks.listen(HOOK_PORT, "127.0.0.1");
app.listen(PORT, "0.0.0.0", () => {
  console.log(`listening on ${PORT}, hooks on ${HOOK_PORT}`);
  warmUp();
});

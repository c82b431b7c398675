// An application in a microVM: it answers on port 8080, and hears on port 9000 what becomes of its microVM.

const crypto = require("node:crypto");
const http = require("node:http");

const PORT = 8080;
const HOOK_PORT = 9000;
const HOOKS = "/aws/lambda-microvms/runtime/v1/";

const draw = () => crypto.randomBytes(4).toString("hex");

const started = draw(); // drawn before the snapshot: all microVMs of the image have it
const state = { microvm: null, payload: null, launch: null, hooks: [] };
const connections = new Map(); // what must not be shared by microVMs: opened in run(), not here

const called = {
  ready() {},
  // The microVM has been launched from the snapshot: from here on it is alone.
  run(body) {
    Object.assign(state, { microvm: body.microvmId, payload: body.runHookPayload ?? null, launch: draw() });
  },
  // It is about to be suspended: write down what must not be lost, and close what will not be there any more.
  suspend() {
    connections.clear();
  },
  // It goes on, perhaps hours later.
  resume() {},
  // It ends.
  terminate() {},
};

function answer(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(`${JSON.stringify(value, null, 2)}\n`);
}

http
  .createServer(async (request, response) => {
    const name = request.url.slice(HOOKS.length);
    let body = "";
    for await (const chunk of request) body += chunk;
    if (!request.url.startsWith(HOOKS) || !Object.hasOwn(called, name)) {
      answer(response, 404, { error: `there is no hook ${name}` });
      return;
    }
    called[name](body ? JSON.parse(body) : {});
    state.hooks.push(name);
    console.log(`hook ${name}`);
    answer(response, 200, {});
  })
  .listen(HOOK_PORT, "127.0.0.1");

http
  .createServer((_request, response) =>
    answer(response, 200, { hello: "from a microVM", started, random: draw(), ...state }),
  )
  .listen(PORT, () => console.log(`listening on ${PORT}, hooks on ${HOOK_PORT}`));

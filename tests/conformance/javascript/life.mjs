// The life of a microVM by AWS's SDK for JavaScript; prints what it saw as JSON. Endpoint and keys: AWS_* variables.
import {
  CreateMicrovmAuthTokenCommand,
  GetMicrovmCommand,
  LambdaMicrovmsClient,
  ListTagsCommand,
  ResumeMicrovmCommand,
  RunMicrovmCommand,
  SuspendMicrovmCommand,
  TagResourceCommand,
  TerminateMicrovmCommand,
  UntagResourceCommand,
  paginateListMicrovms,
} from "@aws-sdk/client-lambda-microvms";

const imageIdentifier = process.argv[2];
const client = new LambdaMicrovmsClient({ maxAttempts: 1 });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function waitFor(microvmIdentifier, state) {
  for (let tries = 0; tries < 600; tries++) {
    const found = await client.send(new GetMicrovmCommand({ microvmIdentifier }));
    if (found.state === state) return found;
    await pause(100);
  }
  throw new Error(`${microvmIdentifier} never was ${state}`);
}

const run = await client.send(new RunMicrovmCommand({ imageIdentifier }));
const microvmIdentifier = run.microvmId;
const seen = { id: microvmIdentifier, states: [run.state], startedAt: run.startedAt instanceof Date };
for (const [command, state] of [
  [null, "RUNNING"],
  [SuspendMicrovmCommand, "SUSPENDED"],
  [ResumeMicrovmCommand, "RUNNING"],
  [TerminateMicrovmCommand, "TERMINATED"],
]) {
  if (state === "TERMINATED") {
    const allowedPorts = [{ port: 8080 }, { allPorts: {} }];
    const made = await client.send(
      new CreateMicrovmAuthTokenCommand({ microvmIdentifier, expirationInMinutes: 5, allowedPorts }),
    );
    seen.token = Object.keys(made.authToken);
  }
  if (command) await client.send(new command({ microvmIdentifier }));
  const found = await waitFor(microvmIdentifier, state);
  seen.states.push(found.state);
  seen.reason = found.stateReason;
}
seen.listed = [];
for await (const page of paginateListMicrovms({ client, pageSize: 1 }, { imageIdentifier })) {
  seen.listed.push(...page.items.map((item) => item.microvmId));
}
await client.send(new TagResourceCommand({ Resource: imageIdentifier, Tags: { "made-by": "javascript" } }));
seen.tags = (await client.send(new ListTagsCommand({ Resource: imageIdentifier }))).Tags;
await client.send(new UntagResourceCommand({ Resource: imageIdentifier, TagKeys: ["made-by"] }));
try {
  await client.send(new GetMicrovmCommand({ microvmIdentifier: "microvm-none" }));
} catch (error) {
  seen.error = { name: error.name, status: error.$metadata.httpStatusCode, message: error.message };
}
console.log(JSON.stringify(seen));

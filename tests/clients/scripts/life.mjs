// A microVM by the SDK for JavaScript, its endpoint by fetch, S3 with a stream, STS and logs; prints what it saw as JSON.
import { Readable } from "node:stream";
import {
  CreateMicrovmAuthTokenCommand,
  GetMicrovmCommand,
  LambdaMicrovmsClient,
  ResumeMicrovmCommand,
  RunMicrovmCommand,
  SuspendMicrovmCommand,
  TerminateMicrovmCommand,
  paginateListMicrovms,
} from "@aws-sdk/client-lambda-microvms";
import { CloudWatchLogsClient, FilterLogEventsCommand } from "@aws-sdk/client-cloudwatch-logs";
import { CreateBucketCommand, GetObjectCommand, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

const [imageIdentifier, logGroupName] = process.argv.slice(2);
const client = new LambdaMicrovmsClient({});
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function waitFor(microvmIdentifier, state) {
  for (let tries = 0; tries < 1200; tries++) {
    const found = await client.send(new GetMicrovmCommand({ microvmIdentifier }));
    if (found.state === state) return found;
    await pause(100);
  }
  throw new Error(`${microvmIdentifier} never was ${state}`);
}

const { microvmId, endpoint } = await client.send(new RunMicrovmCommand({ imageIdentifier }));
const which = { microvmIdentifier: microvmId };
await waitFor(microvmId, "RUNNING");
const allowedPorts = [{ port: 8080 }];
const { authToken } = await client.send(
  new CreateMicrovmAuthTokenCommand({ ...which, expirationInMinutes: 5, allowedPorts }),
);
const ask = async () => (await fetch(`https://${endpoint}/`, { headers: authToken })).json();
const seen = { id: microvmId, counts: [(await ask()).count] };
await client.send(new SuspendMicrovmCommand(which));
await waitFor(microvmId, "SUSPENDED");
await client.send(new ResumeMicrovmCommand(which));
seen.counts.push((await ask()).count);
await client.send(new TerminateMicrovmCommand(which));
seen.state = (await waitFor(microvmId, "TERMINATED")).state;
seen.listed = [];
for await (const page of paginateListMicrovms({ client, pageSize: 1 }, { imageIdentifier })) {
  seen.listed.push(...page.items.map((item) => item.microvmId));
}

const s3 = new S3Client({ forcePathStyle: true });
await s3.send(new CreateBucketCommand({ Bucket: "by-javascript" }));
const Body = Readable.from([Buffer.alloc(70_000, "a"), Buffer.alloc(70_000, "b")]);
await s3.send(new PutObjectCommand({ Bucket: "by-javascript", Key: "streamed", Body, ContentLength: 140_000 }));
const back = await s3.send(new GetObjectCommand({ Bucket: "by-javascript", Key: "streamed" }));
seen.size = (await back.Body.transformToByteArray()).length;
seen.account = (await new STSClient({}).send(new GetCallerIdentityCommand({}))).Account;
const logs = await new CloudWatchLogsClient({}).send(new FilterLogEventsCommand({ logGroupName, limit: 5 }));
seen.events = logs.events.length;
console.log(JSON.stringify(seen));

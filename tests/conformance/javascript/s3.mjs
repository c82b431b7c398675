// What AWS's SDK for JavaScript does with objects; prints what it saw as JSON. Endpoint and keys: AWS_* variables.
import { createReadStream } from "node:fs";
import { Readable } from "node:stream";
import {
  CopyObjectCommand,
  CreateBucketCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  GetObjectTaggingCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  PutObjectTaggingCommand,
  S3Client,
} from "@aws-sdk/client-s3";

const [Bucket, file, size] = process.argv.slice(2);
const client = new S3Client({ forcePathStyle: true, maxAttempts: 1 });
const text = async (Key) => (await client.send(new GetObjectCommand({ Bucket, Key }))).Body.transformToString();

await client.send(new CreateBucketCommand({ Bucket }));
await client.send(new PutObjectCommand({ Bucket, Key: "text", Body: "text" }));
// Of the first stream the length is known beforehand, of the second it is said, and its body goes in AWS's chunks.
await client.send(new PutObjectCommand({ Bucket, Key: "file", Body: createReadStream(file) }));
const chunks = Array.from({ length: 40 }, (_, number) => Buffer.alloc(size / 40, number));
await client.send(
  new PutObjectCommand({ Bucket, Key: "stream", Body: Readable.from(chunks), ContentLength: Number(size) }),
);
const streamed = await client.send(new GetObjectCommand({ Bucket, Key: "stream", ChecksumMode: "ENABLED" }));
const bytes = Buffer.from(await streamed.Body.transformToByteArray());
await client.send(
  new PutObjectTaggingCommand({ Bucket, Key: "text", Tagging: { TagSet: [{ Key: "k", Value: "v" }] } }),
);
await client.send(new CopyObjectCommand({ Bucket, Key: "copy", CopySource: `${Bucket}/text` }));
let refused;
try {
  await client.send(new PutObjectCommand({ Bucket, Key: "text", Body: "new", IfNoneMatch: "*" }));
} catch (error) {
  refused = { name: error.name, status: error.$metadata.httpStatusCode };
}
const listed = await client.send(new ListObjectsV2Command({ Bucket }));
const seen = {
  text: await text("text"),
  copy: await text("copy"),
  tags: (await client.send(new GetObjectTaggingCommand({ Bucket, Key: "copy" }))).TagSet,
  whole: bytes.equals(Buffer.concat(chunks)),
  encoding: streamed.ContentEncoding ?? null,
  fileSize: (await client.send(new HeadObjectCommand({ Bucket, Key: "file" }))).ContentLength,
  refused,
  keys: listed.Contents.map((one) => one.Key),
};
const Objects = listed.Contents.map(({ Key }) => ({ Key }));
seen.deleted = (await client.send(new DeleteObjectsCommand({ Bucket, Delete: { Objects } }))).Deleted.length;
console.log(JSON.stringify(seen));

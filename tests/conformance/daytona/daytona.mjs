// Daytona's SDK for JavaScript through the life of a sandbox; prints what it has found.
import { Daytona } from "@daytona/sdk";

const found = {};
const daytona = new Daytona();
const sandbox = await daytona.create({
  snapshot: process.env.EMBERBOX_TEST_SNAPSHOT,
  envVars: { FROM: "create" },
  labels: { for: "javascript" },
});
try {
  const run = await sandbox.process.executeCommand("echo out $FROM; exit 3");
  found.run = [run.exitCode, run.result];
  await sandbox.fs.uploadFile(Buffer.from("text"), "/tmp/js/a b.txt");
  found.read = (await sandbox.fs.downloadFile("/tmp/js/a b.txt")).toString();
  found.names = (await sandbox.fs.listFiles("/tmp/js")).map((file) => file.name);

  await sandbox.process.createSession("one");
  await sandbox.process.executeSessionCommand("one", { command: "cd /usr" });
  const command = "pwd; sleep 1; echo err >&2";
  const begun = await sandbox.process.executeSessionCommand("one", { command, runAsync: true });
  found.logs = { out: "", err: "" };
  await sandbox.process.getSessionCommandLogs(
    "one",
    begun.cmdId,
    (text) => (found.logs.out += text),
    (text) => (found.logs.err += text),
  );

  found.listed = [];
  for await (const item of daytona.list({ labels: { for: "javascript" } })) {
    found.listed.push(item.id === sandbox.id);
  }
  await sandbox.stop(300);
  found.stopped = sandbox.state;
  await sandbox.start(300);
  const again = await sandbox.process.executeSessionCommand("one", { command: "pwd" });
  found.again = again.stdout;
  try {
    await sandbox.fs.downloadFile("/tmp/js/none");
  } catch (error) {
    found.none = [error.constructor.name, error.statusCode];
  }
} finally {
  await sandbox.delete();
}
console.log(JSON.stringify(found));
process.exit(0);

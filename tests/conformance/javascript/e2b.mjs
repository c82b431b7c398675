// E2B's SDK for JavaScript: the life of a sandbox, as JSON on the standard output.

import { Sandbox, SandboxNotFoundError, CommandExitError } from "e2b"

const seen = {}
const sandbox = await Sandbox.create(process.argv[2], { timeoutMs: 600_000, metadata: { made: "javascript" }, envs: { A: "1" } })
try {
  seen.run = (await sandbox.commands.run("echo out $A; echo err >&2")).stdout
  seen.exit = await sandbox.commands.run("exit 3").catch((error) => error instanceof CommandExitError && error.exitCode)

  let heard = ""
  const handle = await sandbox.commands.run("while read x; do echo got $x; done", { background: true, stdin: true, onStdout: (data) => { heard += data } })
  seen.listed = (await sandbox.commands.list()).some((one) => one.pid === handle.pid)
  await sandbox.commands.sendStdin(handle.pid, "it\n")
  while (!heard.includes("got it")) await new Promise((resolve) => setTimeout(resolve, 50))
  seen.killed = await sandbox.commands.kill(handle.pid)
  await handle.wait().catch(() => undefined)

  await sandbox.files.write("/tmp/e2b-js/a", "text")
  await sandbox.files.write([{ path: "/tmp/e2b-js/b", data: new Blob([new Uint8Array(2_000_000)]) }])
  seen.read = await sandbox.files.read("/tmp/e2b-js/a")
  seen.size = (await sandbox.files.read("/tmp/e2b-js/b", { format: "bytes" })).length
  seen.names = (await sandbox.files.list("/tmp/e2b-js")).map((one) => one.name).sort()
  const events = []
  const watch = await sandbox.files.watchDir("/tmp/e2b-js", (event) => { events.push(event.name) })
  await sandbox.files.write("/tmp/e2b-js/new", "x")
  while (!events.includes("new")) await new Promise((resolve) => setTimeout(resolve, 50))
  await watch.stop()
  await sandbox.files.remove("/tmp/e2b-js")
  seen.gone = !(await sandbox.files.exists("/tmp/e2b-js"))

  let shown = ""
  const decoder = new TextDecoder()
  const terminal = await sandbox.pty.create({ cols: 120, rows: 40, timeoutMs: 0, onData: (data) => { shown += decoder.decode(data) } })
  await sandbox.pty.sendInput(terminal.pid, new TextEncoder().encode("stty size; exit\n"))
  await terminal.wait()
  seen.terminal = shown.includes("40 120")

  await sandbox.commands.run("echo kept > /tmp/kept")
  await sandbox.pause()
  seen.paused = (await sandbox.getInfo()).state
  const again = await Sandbox.connect(sandbox.sandboxId)
  seen.resumed = (await again.getInfo()).state
  seen.kept = (await again.commands.run("cat /tmp/kept")).stdout
  const page = await Sandbox.list({ query: { metadata: { made: "javascript" } } }).nextItems()
  seen.found = page.some((one) => one.sandboxId === sandbox.sandboxId)
} finally {
  await sandbox.kill()
}
seen.missing = await Sandbox.connect("microvm-none").catch((error) => error instanceof SandboxNotFoundError)
console.log(JSON.stringify(seen))

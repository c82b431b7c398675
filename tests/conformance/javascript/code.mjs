// E2B's code interpreter SDK for JavaScript: code, its results and its contexts, as JSON on the standard output.

import { Sandbox } from "@e2b/code-interpreter"

const DRAWN = "class Drawn:\n    def _repr_png_(self): return b'png'\n    def _repr_html_(self): return '<b>1</b>'\n"

const seen = {}
const sandbox = await Sandbox.create(process.argv[2], { timeoutMs: 600_000, envs: { FROM: "create" } })
try {
  const first = await sandbox.runCode("x = 41")
  if (first.error) throw new Error(`${first.error.name}: ${first.error.value}\n${first.error.traceback}`)
  const done = await sandbox.runCode("print('said'); import sys; print('wrong', file=sys.stderr); x + 1")
  seen.text = done.text
  seen.count = done.executionCount
  seen.said = [done.logs.stdout, done.logs.stderr]

  const heard = []
  await sandbox.runCode("import time\nfor i in range(3):\n    print(i, flush=True); time.sleep(0.3)", {
    onStdout: (message) => { heard.push([message.line, Date.now()]) },
  })
  seen.heard = heard.map(([line]) => line)
  seen.live = heard[2][1] - heard[0][1] > 300

  const [shown, main] = (await sandbox.runCode(`${DRAWN}display(Drawn())\n{'a': [1]}`)).results
  seen.forms = [shown.png, shown.html, shown.isMainResult, main.json, main.isMainResult]

  const failed = await sandbox.runCode("1 / 0")
  seen.error = [failed.error.name, failed.error.value, failed.error.traceback.includes("1 / 0")]
  const line = "import os; [os.environ.get('FROM'), os.environ.get('OWN')]"
  seen.environment = (await sandbox.runCode(line, { envs: { OWN: "1" } })).text

  const context = await sandbox.createCodeContext({ cwd: "/tmp" })
  seen.homeless = (await sandbox.createCodeContext()).cwd // the image's user has a home that is not there
  await sandbox.runCode("x = 'theirs'", { context })
  seen.context = (await sandbox.runCode("import os; (x, os.getcwd())", { context })).text
  seen.apart = (await sandbox.runCode("x")).text
  seen.listed = (await sandbox.listCodeContexts()).some((one) => one.id === context.id)
  await sandbox.restartCodeContext(context)
  seen.restarted = (await sandbox.runCode("x", { context })).error.name
  await sandbox.removeCodeContext(context)
  seen.removed = !(await sandbox.listCodeContexts()).some((one) => one.id === context.id)
  seen.refused = await sandbox.runCode("1", { context }).then(() => null, (error) => error.constructor.name)

  seen.late = await sandbox.runCode("x = 2\ntime.sleep(1000)\nx = 3", { timeoutMs: 2000 }).then(() => null, (error) => error.name)
  seen.interrupted = (await sandbox.runCode("x")).text
  seen.bash = (await sandbox.runCode("echo $((6 * 7))", { language: "bash" })).logs.stdout
  seen.file = await sandbox.files.write("/tmp/a.txt", "text").then(() => sandbox.runCode("open('/tmp/a.txt').read()")).then((one) => one.text)

  await sandbox.pause()
  const again = await Sandbox.connect(sandbox.sandboxId)
  seen.kept = (await again.runCode("x")).text
} finally {
  await sandbox.kill()
}
console.log(JSON.stringify(seen))

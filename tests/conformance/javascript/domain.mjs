// E2B's SDKs for JavaScript where E2B_DOMAIN alone says where the server is, as JSON on the standard output.

import { Sandbox } from "@e2b/code-interpreter"

const sandbox = await Sandbox.connect(process.argv[2])
const seen = {
  run: (await sandbox.commands.run("echo out")).stdout,
  code: (await sandbox.runCode("6 * 7")).text,
  status: (await fetch(`https://${sandbox.getHost(8080)}/`)).status,
  host: sandbox.getHost(8080),
}
console.log(JSON.stringify(seen))

const crypto = require("crypto");
require("readline").createInterface({ input: process.stdin }).on("line", () => {
  const pair = crypto.generateKeyPairSync("ed25519").publicKey.export({ type: "spki", format: "der" });
  const values = crypto.webcrypto.getRandomValues(new Uint8Array(16));
  console.log(JSON.stringify({
    "node randomBytes": crypto.randomBytes(16).toString("hex"),
    "node getRandomValues": Buffer.from(values).toString("hex"),
    "node ed25519": pair.toString("hex"),
    "node randomUUID uncached": crypto.randomUUID({ disableEntropyCache: true }),
  }));
});

// SPDX-License-Identifier: Apache-2.0
// A foreign tus client uploads a file over mutual TLS.
// stdin: {"file", "endpoint", "ca", "cert", "key", "chunk"}; the last four but chunk are
// paths. stdout: {"ok", "status", "receipt", "requests"}
import { createReadStream, readFileSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(process.env.FEP_PEERS + "/package.json");
const tus = await import(pathToFileURL(require.resolve("tus-js-client")));
const job = JSON.parse(readFileSync(0, "utf8"));
const tls = {
  ca: readFileSync(job.ca),
  cert: readFileSync(job.cert),
  key: readFileSync(job.key),
};
const Stack = tus.DefaultHttpStack ?? tus.default.DefaultHttpStack;
const Upload = tus.Upload ?? tus.default.Upload;
let last = null;
let requests = 0;
const upload = new Upload(createReadStream(job.file), {
  endpoint: job.endpoint,
  chunkSize: job.chunk,
  uploadSize: statSync(job.file).size,
  retryDelays: [0, 50, 100],
  removeFingerprintOnSuccess: true,
  httpStack: new Stack(tls),
  onAfterResponse: (req, res) => {
    requests += 1;
    last = { status: res.getStatus(), receipt: res.getHeader("Fep-Receipt") ?? null };
  },
  onError: (e) => {
    console.log(JSON.stringify({ ok: false, why: String(e), ...last, requests }));
    process.exit(0);
  },
  onSuccess: () => {
    console.log(JSON.stringify({ ok: true, ...last, requests }));
    process.exit(0);
  },
});
upload.start();

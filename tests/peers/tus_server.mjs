// SPDX-License-Identifier: Apache-2.0
// A foreign tus server over TLS that cuts the connection of its first PATCH requests.
// argv: folder, cert.pem, key.pem, cuts, bytes before a cut.
// stdout: one line {"port"} when it listens, then {"cut": n} and {"finished": id, "size"}
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(process.env.FEP_PEERS + "/package.json");
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const { Server } = await load("@tus/server");
const { FileStore } = await load("@tus/file-store");
const [folder, cert, key, cuts, bytes] = process.argv.slice(2);
const tus = new Server({
  path: "/v1/batches",
  relativeLocation: true,
  datastore: new FileStore({ directory: folder }),
});
tus.on("POST_FINISH", (_req, _res, upload) => {
  console.log(JSON.stringify({ finished: upload.id, size: upload.size }));
});
let left = Number(cuts);
const server = createServer(
  { cert: readFileSync(cert), key: readFileSync(key) },
  (req, res) => {
    if (req.method === "PATCH" && left > 0) {
      left -= 1;
      const n = Number(cuts) - left;
      const before = req.socket.bytesRead;
      const timer = setInterval(() => {
        if (req.socket.bytesRead - before >= Number(bytes)) {
          clearInterval(timer);
          console.log(JSON.stringify({ cut: n }));
          req.socket.destroy();
        }
      }, 1);
      res.on("close", () => clearInterval(timer));
    }
    tus.handle(req, res);
  },
);
server.listen(0, "127.0.0.1", () => {
  console.log(JSON.stringify({ port: server.address().port }));
});

// SPDX-License-Identifier: Apache-2.0
// Another JOSE implementation judges our messages.
// stdin: {"jws": compact, "keys": [public JWK, ...], "typ": expected typ}
// stdout: {"ok": true, "header", "payload"} or {"ok": false, "why"}
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const require = createRequire(process.env.FEP_PEERS + "/package.json");
const jose = await import(pathToFileURL(require.resolve("jose")));
const { jws, keys, typ } = JSON.parse(readFileSync(0, "utf8"));
const byThumbprint = async ({ kid }) => {
  for (const { alg, crv, kty, x, y } of keys) {
    const bare = y === undefined ? { crv, kty, x } : { crv, kty, x, y };
    if ((await jose.calculateJwkThumbprint(bare, "sha256")) === kid)
      return jose.importJWK(bare, alg);
  }
  throw new Error("no key " + kid);
};
try {
  const { payload, protectedHeader } = await jose.compactVerify(jws, byThumbprint, {
    algorithms: ["ES256"],
  });
  if (protectedHeader.typ !== typ) throw new Error("typ is " + protectedHeader.typ);
  const body = JSON.parse(new TextDecoder().decode(payload));
  console.log(JSON.stringify({ ok: true, header: protectedHeader, payload: body }));
} catch (e) {
  console.log(JSON.stringify({ ok: false, why: e.code ?? e.message }));
}

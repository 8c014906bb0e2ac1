// SPDX-License-Identifier: Apache-2.0
// Another JOSE implementation judges our messages.
// stdin: {"jws": compact, "jwk": public JWK, "typ": expected typ}
// stdout: {"ok": true, "header": ..., "payload": ...} or {"ok": false, "why": ...}
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const require = createRequire(process.env.FEP_PEERS + "/package.json");
const jose = await import(pathToFileURL(require.resolve("jose")));
const { jws, jwk, typ } = JSON.parse(readFileSync(0, "utf8"));
try {
  const { alg, crv, kty, x, y } = jwk;
  const key = await jose.importJWK({ crv, kty, x, y }, alg);
  const { payload, protectedHeader } = await jose.compactVerify(jws, key, {
    algorithms: ["ES256"],
  });
  if (protectedHeader.typ !== typ) throw new Error("typ is " + protectedHeader.typ);
  const kid = await jose.calculateJwkThumbprint({ crv, kty, x, y }, "sha256");
  if (protectedHeader.kid !== kid) throw new Error("kid is not the thumbprint");
  const body = JSON.parse(new TextDecoder().decode(payload));
  console.log(JSON.stringify({ ok: true, header: protectedHeader, payload: body }));
} catch (e) {
  console.log(JSON.stringify({ ok: false, why: e.code ?? e.message }));
}

// SPDX-License-Identifier: Apache-2.0
// Another JOSE implementation opens and builds nested messages (JWS inside JWE).
// stdin, one of:
//   {"do": "open", "jwe", "key": PEM, "keys": [public JWK], "typ"}
//     -> {"ok": true, "outer": header, "inner": header, "payload", "jws", "size"}
//   {"do": "build", "payload", "typ", "key": PEM, "kid", "to": public JWK, "iss", "aud"}
//     -> {"ok": true, "jws", "jwe"}
// stdout otherwise: {"ok": false, "why"}
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const require = createRequire(process.env.FEP_PEERS + "/package.json");
const jose = await import(pathToFileURL(require.resolve("jose")));
const ALG = "ECDH-ES+A256KW";
const ENC = "A256GCM";
const SIZES = [1024, 4096, 16384, 65536];
const text = new TextEncoder();

const thumbprint = ({ crv, kty, x, y }) =>
  jose.calculateJwkThumbprint({ crv, kty, x, y }, "sha256");

async function open({ jwe, key, keys, typ }) {
  const mine = await jose.importPKCS8(key, ALG);
  const { plaintext, protectedHeader: outer } = await jose.compactDecrypt(jwe, mine, {
    keyManagementAlgorithms: [ALG],
    contentEncryptionAlgorithms: [ENC],
  });
  const jws = new TextDecoder().decode(plaintext).replace(/ +$/, "");
  const byThumbprint = async ({ kid }) => {
    for (const jwk of keys)
      if ((await thumbprint(jwk)) === kid) return jose.importJWK(jwk, "ES256");
    throw new Error("no key " + kid);
  };
  const { payload, protectedHeader: inner } = await jose.compactVerify(
    jws,
    byThumbprint,
    { algorithms: ["ES256"] },
  );
  if (inner.typ !== typ || outer.cty !== typ) throw new Error("typ is " + inner.typ);
  const body = JSON.parse(new TextDecoder().decode(payload));
  return { outer, inner, payload: body, jws, size: plaintext.length };
}

async function build({ payload, typ, key, kid, to, iss, aud }) {
  const jws = await new jose.CompactSign(text.encode(JSON.stringify(payload)))
    .setProtectedHeader({ alg: "ES256", kid, typ })
    .sign(await jose.importPKCS8(key, "ES256"));
  const size =
    SIZES.find((n) => jws.length <= n) ?? Math.ceil(jws.length / 65536) * 65536;
  const jwe = await new jose.CompactEncrypt(text.encode(jws.padEnd(size, " ")))
    .setProtectedHeader({ alg: ALG, enc: ENC, kid: await thumbprint(to), cty: typ, iss, aud })
    .encrypt(await jose.importJWK(to, ALG));
  return { jws, jwe };
}

try {
  const job = JSON.parse(readFileSync(0, "utf8"));
  const answer = await { open, build }[job.do](job);
  console.log(JSON.stringify({ ok: true, ...answer }));
} catch (e) {
  console.log(JSON.stringify({ ok: false, why: e.code ?? e.message }));
}

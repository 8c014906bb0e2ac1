// SPDX-License-Identifier: Apache-2.0
// Another JOSE implementation makes a node's keys and statements, and judges a chain.
// stdin: {"make": node} or {"verify": [statement 1, 2, ...]}
// stdout: {"statements": [1, 2], "tls": PEM} or {"ok", "digest", "kids"} / {"ok", "why"}
import { createRequire } from "node:module";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const require = createRequire(process.env.FEP_PEERS + "/package.json");
const jose = await import(pathToFileURL(require.resolve("jose")));
const job = JSON.parse(readFileSync(0, "utf8"));
const TYP = "fep-keys+jws";
const ALG = { tls: "ES256", sign: "ES256", decrypt: "ECDH-ES+A256KW", audit: "Ed25519" };

const bare = ({ crv, kty, x, y }) =>
  y === undefined ? { crv, kty, x } : { crv, kty, x, y };
const kidOf = (jwk) => jose.calculateJwkThumbprint(bare(jwk), "sha256");

async function newKey(purpose) {
  const pair = await jose.generateKeyPair(ALG[purpose], { extractable: true });
  const jwk = bare(await jose.exportJWK(pair.publicKey));
  return { ...pair, jwk: { ...jwk, alg: ALG[purpose], purpose }, kid: await kidOf(jwk) };
}

const state = (node, n, keys, signer) =>
  new jose.CompactSign(
    new TextEncoder().encode(
      JSON.stringify({
        v: 1, node, n, keys: keys.map((key) => key.jwk),
        not_before: "2026-11-21T00:00:00Z",
      }),
    ),
  )
    .setProtectedHeader({ alg: "ES256", kid: signer.kid, typ: TYP })
    .sign(signer.privateKey);

async function make(node) {
  const [tls, sign, decrypt, audit, next] = await Promise.all(
    ["tls", "sign", "decrypt", "audit", "sign"].map(newKey),
  );
  return {
    statements: [
      await state(node, 1, [tls, sign, decrypt, audit], sign),
      await state(node, 2, [tls, next, decrypt, audit], sign),
    ],
    tls: await jose.exportPKCS8(tls.privateKey),
  };
}

async function verify(statements) {
  let judges = null;
  const kids = new Set();
  for (const [i, text] of statements.entries()) {
    const body = jose.decodeJwt(text);
    judges ??= body.keys;
    const { kid, typ } = jose.decodeProtectedHeader(text);
    const signs = judges.filter((key) => key.purpose === "sign");
    const found = await Promise.all(signs.map(kidOf));
    if (typ !== TYP || body.n !== i + 1) throw new Error("not statement " + (i + 1));
    if (!found.includes(kid)) throw new Error("statement " + body.n + " by a stranger");
    const key = await jose.importJWK(bare(signs[found.indexOf(kid)]), "ES256");
    await jose.compactVerify(text, key, { algorithms: ["ES256"] });
    judges = body.keys;
    for (const jwk of body.keys) kids.add(await kidOf(jwk));
  }
  const input = statements[0].slice(0, statements[0].lastIndexOf("."));
  const digest = "sha256:" + createHash("sha256").update(input).digest("hex");
  return { ok: true, digest, kids: [...kids] };
}

try {
  console.log(JSON.stringify(await (job.make ? make(job.make) : verify(job.verify))));
} catch (e) {
  console.log(JSON.stringify({ ok: false, why: e.code ?? e.message }));
}

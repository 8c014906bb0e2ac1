#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Enrol at an exchange with openssl and curl alone, and post the first key statement.
#
#   enrol_with_openssl.sh URL CA_SHA256 NODE FOLDER [renew]
#
# With "renew" it then renews the certificate with a new key, and states that key over
# the new certificate: tls2.key, tls2.pem, keys2.jws.
#
# $CODE_FILE names a file with the one-time code, for an exchange that wants one. Makes the keys, ca.pem, tls.pem, keys.jws and directory.jws in FOLDER; a tls.key and a
# keys.jws that are there are used, whoever made them. While a person has not approved it
# waits; people compare what stands in FOLDER/statement. It is wire.md section 6 as a
# shell reads it: nothing of ours runs here.
set -eu
url=$1 ca_sha256=$2 node=$3 folder=$4 code=${CODE_FILE:+$(cat "$CODE_FILE")}
mkdir -p "$folder"
cd "$folder"
umask 077

b64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

# The authority: taken unverified, then compared with the slip, and pinned.
curl -sSfk "$url/.well-known/est/cacerts" | openssl base64 -d |
    openssl pkcs7 -inform DER -print_certs -out ca.pem
found=$(openssl x509 -in ca.pem -outform DER | openssl dgst -sha256 -r | cut -c1-64)
[ "$found" = "$ca_sha256" ] || { echo "the authority is not the slip's" >&2; exit 1; }

# The coordinates are the last bytes of a key's public DER: 64 of P-256, 32 of Ed25519.
point() { openssl pkey -in "$1" -pubout -outform DER | tail -c "$2" >point; }
jwk() {
    point "$1" 64
    alg=ES256
    [ "$2" != decrypt ] || alg=ECDH-ES+A256KW
    printf '{"kty":"EC","crv":"P-256","x":"%s","y":"%s","alg":"%s","purpose":"%s"}' \
        "$(head -c 32 point | b64url)" "$(tail -c 32 point | b64url)" "$alg" "$2"
}
jwk_audit() {
    point "$1" 32
    printf '{"kty":"OKP","crv":"Ed25519","x":"%s","alg":"Ed25519","purpose":"audit"}' \
        "$(b64url <point)"
}
# RFC 7638 thumbprint.
kid() {
    point "$1" 64
    printf '{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}' \
        "$(head -c 32 point | b64url)" "$(tail -c 32 point | b64url)" |
        openssl dgst -sha256 -binary | b64url
}
# ES256: openssl signs in DER, JWS wants r and s of 32 bytes each.
es256() {
    openssl dgst -sha256 -sign "$1" -out signature.der
    openssl asn1parse -inform DER -in signature.der |
        sed -n 's/.*INTEGER *://p' | while read -r number; do
            printf '%64s' "$number" | tr ' ' '0' | tail -c 64
        done | sed 's/../\\x&/g' >signature.hex
    # shellcheck disable=SC2059 # the hex digits are the format on purpose
    /usr/bin/printf "$(cat signature.hex)" | b64url
}

if [ ! -e keys.jws ]; then
    for purpose in tls sign decrypt; do
        openssl ecparam -name prime256v1 -genkey -noout -out $purpose.key
    done
    openssl genpkey -algorithm ed25519 -out audit.key
    header=$(printf '{"alg":"ES256","kid":"%s","typ":"fep-keys+jws"}' \
        "$(kid sign.key)" | b64url)
    keys=$(jwk tls.key tls),$(jwk sign.key sign)
    keys=$keys,$(jwk decrypt.key decrypt),$(jwk_audit audit.key)
    body=$(printf '{"v":1,"node":"%s","n":1,"keys":[%s],"not_before":"%s"}' \
        "$node" "$keys" 2026-11-21T00:00:00Z | b64url)
    signature=$(printf '%s.%s' "$header" "$body" | es256 sign.key)
    printf '%s.%s.%s' "$header" "$body" "$signature" >keys.jws
fi

# What people compare, and what the request names: SHA-256 of header.payload.
digest=$(tr -d '\n' <keys.jws | sed 's/\.[^.]*$//' | tr -d '\n' |
    openssl dgst -sha256 -r | cut -c1-64)
printf 'sha256:%s' "$digest" >statement.tmp
mv statement.tmp statement

openssl req -new -key tls.key -subj "/CN=front end" -outform DER \
    -addext "subjectAltName=URI:fep:node/$node,URI:fep:keys/sha256/$digest" |
    openssl base64 >request.b64
# The code's first group is the user, the rest the password; never in the arguments.
printf '%s' "$code" | sed -n 's/^\([^-]*\)-\(.*\)$/user = "\1:\2"/p' >login
while :; do
    status=$(curl -sS --cacert ca.pem -K login -H 'Content-Type: application/pkcs10' \
        --data-binary @request.b64 -D headers -o answer -w '%{http_code}' \
        "$url/.well-known/est/simpleenroll")
    [ "$status" = 202 ] || break
    sleep "$(tr -d '\r' <headers | sed -n 's/^[Rr]etry-[Aa]fter: //p')"
done
[ "$status" = 200 ] || { cat answer >&2; exit 1; }
openssl base64 -d <answer | openssl pkcs7 -inform DER -print_certs -out tls.pem

mtls() { curl -sSf --cacert ca.pem --cert tls.pem --key tls.key "$@"; }
mtls -H 'Content-Type: application/jose' --data-binary @keys.jws "$url/v1/keys"
mtls "$url/v1/directory" >directory.jws
[ "${5:-}" = renew ] || exit 0

openssl ecparam -name prime256v1 -genkey -noout -out tls2.key
openssl req -new -key tls2.key -subj "/CN=front end" -outform DER \
    -addext "subjectAltName=URI:fep:node/$node,URI:fep:keys/sha256/$digest" |
    openssl base64 >request.b64
mtls -H 'Content-Type: application/pkcs10' --data-binary @request.b64 \
    "$url/.well-known/est/simplereenroll" |
    openssl base64 -d | openssl pkcs7 -inform DER -print_certs -out tls2.pem

body=$(printf '{"v":1,"node":"%s","n":2,"keys":[%s,%s],"not_before":"2026-11-22T00:00:00Z"}' \
    "$node" "$(jwk sign.key sign)" "$(jwk tls2.key tls)" | b64url)
signature=$(printf '%s.%s' "$header" "$body" | es256 sign.key)
printf '%s.%s.%s' "$header" "$body" "$signature" >keys2.jws
renewed() { curl -sSf --cacert ca.pem --cert tls2.pem --key tls2.key "$@"; }
renewed -H 'Content-Type: application/jose' --data-binary @keys2.jws "$url/v1/keys"
renewed "$url/v1/directory" >directory.jws

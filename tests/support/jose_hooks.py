# SPDX-License-Identifier: Apache-2.0
"""For schemathesis: bodies of ``application/jose``, some of them truly sealed.

Texts of the document's pattern never get past the header. So a part of the bodies holds
a signed message with claims at random, made with the keys of a folder.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import strategies as st

from agent.crypto import jwe
from agent.crypto.jose import PrivateKey
from agent.wire.grammar import new_uuid7
from agent.wire.lookup import REQUEST_TYP
from tests.support.requester import forged

FOLDER = Path(os.environ["FEP_TEST_KEYS"])
SIGN = PrivateKey.from_pem((FOLDER / "sign.pem").read_bytes(), purpose="sign")
PROVIDER = PrivateKey.from_pem((FOLDER / "to.pem").read_bytes(), purpose="decrypt")
TRUE: dict[str, Any] = json.loads((FOLDER / "request.json").read_text())

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
CHANGES = st.dictionaries(
    st.sampled_from([*TRUE, "matter", "approval", "x"]), VALUES, max_size=3
)


@st.composite
def sealed(draw: st.DrawFn) -> str:
    """A true request with some members changed, signed and sealed truly."""
    now = int(time.time())
    jti = new_uuid7(now * 1000, draw(st.binary(min_size=10, max_size=10)))
    body = {**TRUE, "jti": jti, "iat": now, "exp": now + 60, **draw(CHANGES)}
    header = {"alg": "ES256", "kid": SIGN.public.kid, "typ": REQUEST_TYP}
    data = json.dumps(body).encode("utf-8", "surrogatepass")
    text = forged(header, data, key=SIGN)
    iss, aud = TRUE["iss"], TRUE["aud"]
    return jwe.seal(text, to=PROVIDER.public, cty=REQUEST_TYP, iss=iss, aud=aud)


PATTERN = r"[A-Za-z0-9_-]{1,40}(\.[A-Za-z0-9_-]{1,40}){4}"
schemathesis.openapi.media_type(
    "application/jose",
    st.one_of(st.from_regex(PATTERN, fullmatch=True), sealed()).map(str.encode),
)

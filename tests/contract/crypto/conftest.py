# SPDX-License-Identifier: Apache-2.0
"""One token for all of this folder's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.soft_token import SoftToken


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoftToken]:
    """A token with a P-256 pair ``fep-sign`` and an Ed25519 pair ``fep-audit``."""
    found = SoftToken(tmp_path_factory.mktemp("token"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(found.conf))
        found.make()
        found.generate("fep-sign", ed25519=False)
        found.generate("fep-audit", ed25519=True)
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """For key files."""
    return tmp_path / "keys"

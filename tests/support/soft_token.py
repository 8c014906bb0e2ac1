# SPDX-License-Identifier: Apache-2.0
"""A real PKCS#11 token in software (softhsm2), with keys for ``sign`` and ``audit``."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism

MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "2468"
_P256 = bytes.fromhex("06082a8648ce3d030107")
_EDWARDS25519 = bytes.fromhex("130c656477617264733235353139")


@dataclass(frozen=True)
class SoftToken:
    """A token with the label ``fep`` in a folder of its own."""

    folder: Path

    @property
    def conf(self) -> Path:
        """What ``SOFTHSM2_CONF`` names, before the module is loaded."""
        return self.folder / "softhsm2.conf"

    @property
    def pin_file(self) -> Path:
        """The PIN, 0400."""
        return self.folder / "pin"

    def make(self) -> None:
        """Initialise it. ``SOFTHSM2_CONF`` must name :attr:`conf`."""
        tokens = self.folder / "tokens"
        tokens.mkdir(parents=True)
        self.conf.write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
        self.pin_file.write_text(f"{PIN}\n")
        self.pin_file.chmod(0o400)
        command = ["softhsm2-util", "--init-token", "--free", "--label", "fep"]
        subprocess.run(
            [*command, "--pin", PIN, "--so-pin", PIN],
            env={**os.environ, "SOFTHSM2_CONF": str(self.conf)},
            check=True,
            capture_output=True,
        )

    def anew(self) -> pkcs11.Token:
        """The token after everybody was logged out and every session was lost."""
        library = pkcs11.lib(MODULE)
        library.reinitialize()
        return library.get_token(token_label="fep")

    def generate(self, label: str, *, ed25519: bool) -> None:
        """A key pair that cannot leave the token."""
        token = self.anew()
        with token.open(user_pin=PIN, rw=True) as session:
            if ed25519:
                kind, params = KeyType.EC_EDWARDS, _EDWARDS25519
                how = Mechanism.EC_EDWARDS_KEY_PAIR_GEN
            else:
                kind, params = KeyType.EC, _P256
                how = Mechanism.EC_KEY_PAIR_GEN
            domain = session.create_domain_parameters(
                kind, {Attribute.EC_PARAMS: params}, local=True
            )
            domain.generate_keypair(mechanism=how, store=True, label=label)

    def remove(self, label: str) -> None:
        """Delete a key pair."""
        token = self.anew()
        with token.open(user_pin=PIN, rw=True) as session:
            for found in list(session.get_objects({Attribute.LABEL: label})):
                found.destroy()

    def set_pin(self, old: str, new: str) -> None:
        """Give the token another PIN; everybody is logged out."""
        with self.anew().open(user_pin=old, rw=True) as session:
            session.set_pin(old, new)
        self.anew()

    def say_pin(self, pin: str) -> None:
        """Write a PIN into the file that key files name."""
        self.pin_file.unlink(missing_ok=True)
        self.pin_file.write_text(f"{pin}\n")
        self.pin_file.chmod(0o400)

    def uri(self, label: str, *, pin: str = "") -> str:
        """What a key file says."""
        source = pin or f"file:{self.pin_file}"
        return (
            f"pkcs11:token=fep;object={label}?module-path={MODULE}&pin-source={source}"
        )

    def key_file(self, path: Path, label: str) -> Path:
        """A key file that names a key pair."""
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(self.uri(label) + "\n")
        path.chmod(0o400)
        return path

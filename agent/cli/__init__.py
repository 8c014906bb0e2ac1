# SPDX-License-Identifier: Apache-2.0
"""The command ``fep``: one file per command, found by name."""

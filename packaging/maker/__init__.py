# SPDX-License-Identifier: Apache-2.0
"""Makes the packages: what ``scripts/package`` is made of; standard library only."""

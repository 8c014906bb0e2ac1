# SPDX-License-Identifier: Apache-2.0
"""Keys by purpose, signatures, digests; the home of cryptography."""

# SPDX-License-Identifier: Apache-2.0
"""Every message of the wire format: strict parse and format, caps, digests; no I/O."""

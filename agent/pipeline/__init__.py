# SPDX-License-Identifier: Apache-2.0
"""Push: extract, quality, seal, spool, uplink; they meet only in ``flow``."""

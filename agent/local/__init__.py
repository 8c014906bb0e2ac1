# SPDX-License-Identifier: Apache-2.0
"""HTTP over a Unix socket between the daemon and the people of this machine."""

# SPDX-License-Identifier: Apache-2.0
"""Push: extract, quality, pack, seal, spool, uplink.

The stages are strangers to each other. Those that touch rows meet in ``worker``, in a
child process; those that touch keys, state and network meet in ``flow``, in the daemon.
"""

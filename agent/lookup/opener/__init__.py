# SPDX-License-Identifier: Apache-2.0
"""A process that opens sealed requests and checks their signatures.

Curves cost a third of what a lookup costs, and Python computes on one core at a time.
What comes out here the daemon still judges: whose key it was, whether it is active,
what is asked. Without this process, or while it is started again, the daemon does its
work.
"""

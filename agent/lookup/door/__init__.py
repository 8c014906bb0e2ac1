# SPDX-License-Identifier: Apache-2.0
"""The door: the listener for the exchange, a process without a key that signs.

``process`` is the daemon's side: it starts the child, answers what it brings and starts
it again. In the child ``threshold`` speaks TLS and HTTP, over connections that
``lines`` bounds, and ``inside`` carries texts to the daemon and seals what comes back.
They speak ``talk``. Why it is a process of its
own: docs/adr/0008.
"""

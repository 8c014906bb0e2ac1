# SPDX-License-Identifier: Apache-2.0
"""The department's policy: who may look up what, for which purpose; pure.

Rules

1. Nothing is allowed that no grant names; a policy without grants refuses everything.
2. Share type and gate come first: a grant can give only what an ``Offer`` holds, at
   load and again at every request.
3. At most one grant fits a request. Grants that could both fit are refused at load, so
   that neither their order nor a union of their fields ever matters.
4. Keys are exact and whole. No character has a meaning of its own in any of them.
5. All items of a request are judged together. What cannot be judged is refused.

``document`` is what a person writes, ``load`` makes a :class:`rules.Policy` of it or
lists every fault, ``judge`` decides. Time, offers and policy are arguments.
"""

# SPDX-License-Identifier: Apache-2.0
"""Values: a source's text to the exact type of an item, with a reason for each fault.

``typed.typed`` is the whole of it for others. Pushes and lookups share it, so that one
value of a source never means two things.
"""

# SPDX-License-Identifier: Apache-2.0
"""``python -m agent.lookup.door FD``: the listener's process."""

import sys

from agent.lookup.door.inside import main

sys.exit(main(sys.argv))

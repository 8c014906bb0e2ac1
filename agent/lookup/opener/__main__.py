# SPDX-License-Identifier: Apache-2.0
"""``python -m agent.lookup.opener FD``: the opener's process."""

import sys

from agent.lookup.opener.inside import main

sys.exit(main(sys.argv))

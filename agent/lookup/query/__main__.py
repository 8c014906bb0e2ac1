# SPDX-License-Identifier: Apache-2.0
"""``python -m agent.lookup.query FD``: the child of one source."""

import sys

from agent.lookup.query.worker import main

sys.exit(main(sys.argv))

# SPDX-License-Identifier: Apache-2.0
"""``python -m agent.pipeline.worker FD``: the child of one run."""

import sys

from agent.pipeline.worker.serving import main

sys.exit(main(sys.argv))

# SPDX-License-Identifier: Apache-2.0
"""FEP, the front-end processor agent (前置机): pushes, answers, and can prove both."""

VERSION = "0.1.0"
"""Version of the agent; stands in every manifest as ``fep-agent/<version>``."""

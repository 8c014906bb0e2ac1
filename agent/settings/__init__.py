# SPDX-License-Identifier: Apache-2.0
"""Settings: the only reader of ``agent.toml`` and of the environment."""

from agent.settings.load import load, tables, template
from agent.settings.model import Settings
from agent.settings.secret import Secret
from agent.settings.source import Source

__all__ = ["Secret", "Settings", "Source", "load", "tables", "template"]

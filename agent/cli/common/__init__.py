# SPDX-License-Identifier: Apache-2.0
"""What several commands share: the language, what was asked, and how it is shown."""

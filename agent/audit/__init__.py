# SPDX-License-Identifier: Apache-2.0
"""What is worth telling: one frozen class per event."""

# SPDX-License-Identifier: Apache-2.0
"""The demonstration: a sample department, a sandbox exchange, and the main job."""

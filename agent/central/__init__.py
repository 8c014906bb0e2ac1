# SPDX-License-Identifier: Apache-2.0
"""What central ops run: the publisher of the TUF repository, and the fleet's view."""

# SPDX-License-Identifier: Apache-2.0
"""What ties this machine to the exchange: identity, enrolment, directory."""

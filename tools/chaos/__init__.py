# SPDX-License-Identifier: Apache-2.0
"""Break a running system on purpose, in a seeded order, and judge it by its packets."""

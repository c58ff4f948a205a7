# SPDX-License-Identifier: Apache-2.0
"""Who may call the REST API, how much, and what is written down of it."""

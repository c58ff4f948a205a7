# SPDX-License-Identifier: Apache-2.0
"""Generate the pages of docs/ that are made from the programs, so that they cannot drift from them."""

# SPDX-License-Identifier: Apache-2.0
"""Feed one input to one reader, and check what comes of it: a function for each target."""

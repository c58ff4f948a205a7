# SPDX-License-Identifier: Apache-2.0
"""Share what home agents, local mobility anchors and mobile access gateways have in common."""

# SPDX-License-Identifier: Apache-2.0
"""Share routers among several controllers, the members of a cluster. Knows no Ryu."""

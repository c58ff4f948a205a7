# SPDX-License-Identifier: Apache-2.0
"""The SDN controller: bindings in by REST, OpenFlow flows out to the routers."""

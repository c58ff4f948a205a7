# SPDX-License-Identifier: Apache-2.0
"""Take the data traffic of Mobile IPv6 off the home agent, with OpenFlow."""

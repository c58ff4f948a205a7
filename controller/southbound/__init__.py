# SPDX-License-Identifier: Apache-2.0
"""Talk OpenFlow with the switches: encode and decode flows, and keep each switch in step with its router."""

# SPDX-License-Identifier: Apache-2.0
"""What hoaflow's speed is measured with: `make bench` for the controller, `make bench-dataplane` for the packets."""

# SPDX-License-Identifier: Apache-2.0
"""What every client of the controller's REST API shares: token, certificates, time-outs, and errors in plain words."""

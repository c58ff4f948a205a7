# SPDX-License-Identifier: Apache-2.0
"""Ask a controller's REST API from the command line, and print the answer in words or JSON."""

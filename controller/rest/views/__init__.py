# SPDX-License-Identifier: Apache-2.0
"""Pure functions from the core's values to the structs of answers.

Addresses come in RFC 5952 form, times as seconds left.
"""

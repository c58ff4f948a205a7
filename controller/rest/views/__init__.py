# SPDX-License-Identifier: Apache-2.0
"""Convert the core's values to the structs of answers. Pure.

Addresses come in RFC 5952 form, times as seconds left.
"""

# SPDX-License-Identifier: Apache-2.0
"""Declare the structs of requests and answers, which msgspec decodes, validates and encodes."""

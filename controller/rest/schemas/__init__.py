# SPDX-License-Identifier: Apache-2.0
"""The structs of requests and answers, which msgspec decodes, validates and encodes."""

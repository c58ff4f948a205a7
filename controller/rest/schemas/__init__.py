# SPDX-License-Identifier: Apache-2.0
"""What requests and answers look like: the structs that msgspec decodes, validates and encodes."""

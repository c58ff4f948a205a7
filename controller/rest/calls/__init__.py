# SPDX-License-Identifier: Apache-2.0
"""The calls of the API by subject: each is declared, and carried out, where it is defined."""

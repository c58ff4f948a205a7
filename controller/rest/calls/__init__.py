# SPDX-License-Identifier: Apache-2.0
"""Carry out the API's calls, by subject; each is declared where it is defined."""

# SPDX-License-Identifier: Apache-2.0
"""Follows a home agent's binding cache and keeps the controller in step with it."""

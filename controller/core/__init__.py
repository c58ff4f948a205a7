# SPDX-License-Identifier: Apache-2.0
"""Decide all that the controller does, and do none of it: the pure core.

Nothing here knows Ryu, eventlet, sockets or the clock: time and what the switches say come in as arguments, and what is
to be sent goes out as return values. ``tests/project/test_layers.py`` enforces it.
"""

# SPDX-License-Identifier: Apache-2.0
"""How the core's values look in answers: pure functions from core objects to the structs of ``schemas``."""

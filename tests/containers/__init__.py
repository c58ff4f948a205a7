# SPDX-License-Identifier: Apache-2.0
"""Tests of the image and of docker-compose.yml with a real engine: `make test-compose`."""

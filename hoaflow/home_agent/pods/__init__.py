# SPDX-License-Identifier: Apache-2.0
"""Have several pods serve one home agent address in turn, with its binding cache in etcd."""

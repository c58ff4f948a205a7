# SPDX-License-Identifier: Apache-2.0
"""Call etcd through its JSON gateway, and follow its keys."""

from hoaflow.etcd.client import EtcdAccess, EtcdClient
from hoaflow.etcd.errors import EtcdError, EtcdRefused, EtcdUnavailable
from hoaflow.etcd.messages import KeyValue
from hoaflow.etcd.watch import follow

__all__ = ["EtcdAccess", "EtcdClient", "EtcdError", "EtcdRefused", "EtcdUnavailable", "KeyValue", "follow"]

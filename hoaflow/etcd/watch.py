# SPDX-License-Identifier: Apache-2.0
"""Follow the keys below a prefix for as long as the process runs, whatever happens to etcd."""

import time
from collections.abc import Callable, Iterator, Mapping

from hoaflow.backoff import Backoff
from hoaflow.etcd.client import EtcdClient
from hoaflow.etcd.errors import EtcdError
from hoaflow.etcd.messages import KeyValue

# Seconds without a change after which all keys are read anew. An endpoint that is cut off from the others sends no
# changes, and does not say so, but cannot answer a reading.
SILENCE = 2.0
FIRST_WAIT, LONGEST_WAIT = 0.1, 1.0  # seconds between attempts


Changes = Mapping[str, KeyValue | None]  # what keys hold now, None if they were deleted


def follow(client: EtcdClient, prefix: str, failed: Callable[[EtcdError], None]) -> Iterator[Changes]:
    """Yield the keys that begin with `prefix`, and from then on those that have changed.

    Every `SILENCE` seconds without a change there are none of them. Each reading is as new as etcd's majority. When
    etcd can't be read, `failed` is called, and it is tried again. After a lost connection, or a compaction that
    overtook the watch, all keys are read anew, so changes may be seen together, but none is missed.
    """
    known: dict[str, KeyValue] = {}
    backoff = Backoff(FIRST_WAIT, LONGEST_WAIT)
    while True:
        try:
            revision, keys = client.get_all(prefix)
            former, known = known, keys
            yield {key: keys.get(key) for key in former | keys if former.get(key) != keys.get(key)}
            backoff.succeeded()
            for changes in client.watch(prefix, revision + 1, SILENCE):
                for change in changes:
                    if change.found is None:
                        known.pop(change.key, None)
                    else:
                        known[change.key] = change.found
                yield {change.key: change.found for change in changes}
        except EtcdError as error:
            failed(error)
            time.sleep(backoff.failed())

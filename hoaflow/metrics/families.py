# SPDX-License-Identifier: Apache-2.0
"""Build collectors and families of metrics that several parts have alike."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class UndescribedCollector(Collector):
    """A collector that describes nothing, so that registering it does not collect. `collect` is the subclass's."""

    def describe(self) -> Iterator[Metric]:
        """Describe nothing."""
        return iter(())


def by_label(name: str, help_: str, label: str, counts: Mapping[int, int] | Mapping[str, int]) -> Metric:
    """Return a counter for each value of a label. The main loop may count meanwhile."""
    family = CounterMetricFamily(name, help_, labels=[label])
    for value, count in sorted(dict(counts).items()):
        family.add_metric([str(value)], count)
    return family

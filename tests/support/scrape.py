# SPDX-License-Identifier: Apache-2.0
"""What a scrape of Prometheus metrics says."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from topologies.waiting import patient

TIMEOUT = patient(60.0)  # seconds


class Scrape:
    """The samples of one scrape, by name and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __call__(self, name: str, /, **labels: str) -> float:
        """Return the value of one sample. Raises KeyError when there is none."""
        return self._samples[name, tuple(sorted(labels.items()))]

    def by(self, label: str, name: str) -> dict[str, float]:
        """Return the values of a metric, but for zeros, by one of its labels."""
        return {
            dict(labels)[label]: value for (found, labels), value in self._samples.items() if found == name and value
        }

    def families(self) -> set[str]:
        """Return the names of all samples."""
        return {name for name, _ in self._samples}


def scrape(url: str) -> Scrape:
    """Return what is served at a URL. Raises OSError when nothing is."""
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
        return Scrape(answer.read().decode())

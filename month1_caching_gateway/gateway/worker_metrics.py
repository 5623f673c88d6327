"""The metrics of all workers as one page: every sample keeps its series and gains `worker`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


class WorkerMetrics(Collector):
    """What was fetched last; `replace` it before a scrape. Texts are in the exposition format."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def replace(self, texts: Mapping[str, str]) -> None:
        """texts: by worker."""
        self._texts = dict(texts)

    def collect(self) -> Iterable[Metric]:
        """Families by name, samples of all workers in each."""
        merged: dict[str, Metric] = {}
        for worker, text in self._texts.items():
            for family in text_string_to_metric_families(text):
                into = merged.get(family.name)
                if into is None:
                    into = Metric(family.name, family.documentation, family.type)
                    merged[family.name] = into
                for sample in family.samples:
                    into.samples.append(sample._replace(labels={**sample.labels, "worker": worker}))
        return merged.values()

"""What a report is written from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.quality.campaign import Campaign
from benchmarks.quality.flops import Size
from benchmarks.quality.plan import Data, Plan, headline
from benchmarks.quality.scores import FEW_POSITIVES, Scores, gather
from benchmarks.results import Result

Sizes = Mapping[str, Sequence[Size]]


@dataclass(frozen=True)
class Facts:
    """What a report is written from."""

    command: str
    plan: Plan
    data: Data
    tasks: tuple[str, ...]
    sizes: Sizes
    """By model, in the order of the report; several where a model is one for each task."""
    rates: Mapping[str, float]
    results: Sequence[Result]
    missing: Sequence[str]
    searched: bool
    """Whether rates were chosen on validation; else every model has the one of its own settings."""

    @classmethod
    def of(cls, campaign: Campaign, sizes: Sizes, command: str) -> "Facts":
        """Take a campaign's facts."""
        found = (campaign.rates, campaign.results, campaign.missing, not campaign.choice.quick)
        return cls(command, campaign.plan, campaign.data, campaign.tasks, sizes, *found)

    @property
    def scores(self) -> Scores:
        """Test metrics of the results."""
        return gather(self.results)

    @property
    def trained(self) -> list[str]:
        """Models and ablations that have results, in the order of the report."""
        return list(dict.fromkeys(result["model"] for result in sorted(self.results, key=self._place)))

    @property
    def models(self) -> list[str]:
        """Models that have results, without the ablations."""
        return [name for name in self.trained if name not in self.plan.ablations]

    @property
    def ablations(self) -> list[str]:
        """Ablations that have results."""
        return [name for name in self.trained if name in self.plan.ablations]

    @property
    def headlines(self) -> dict[str, str]:
        """The metric of every task; larger is better."""
        return {task: headline(self.data.task(task)) for task in self.tasks}

    @property
    def judged(self) -> list[str]:
        """Events with enough positives in the test split."""
        enough = [task for task in self.tasks if (self.data.count("test", task, "positives") or 0) >= FEW_POSITIVES]
        return [task for task in enough if self.headlines[task] == "auc"]

    def _place(self, result: Result) -> int:
        order = list(self.sizes)
        return order.index(result["model"]) if result["model"] in order else len(order)

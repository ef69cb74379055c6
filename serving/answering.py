"""From a request's turn to its answer, in a scoring thread. Small requests that wait may be scored together."""

from collections.abc import Iterator
from dataclasses import dataclass

from serving.answers import write_answer
from serving.lineup import Lineup
from serving.loading import Served
from serving.metrics import Metrics
from serving.reader import Question
from serving.schemas import RankRequest
from serving.scorer import Scores
from serving.settings import Settings
from serving.shadow import Shadow
from serving.store.desk import Elsewhere
from serving.traffic import Switch, Traffic
from serving.turns import NextTurn, Turn


@dataclass(frozen=True)
class Read:
    """A request as the model that answers it sees it."""

    turn: Turn
    traffic: Traffic
    served: Served
    question: Question


class Answering:
    """What a scoring thread does. Calls from several threads do not disturb each other."""

    def __init__(self, settings: Settings, lineup: Lineup, switch: Switch, shadow: Shadow, metrics: Metrics) -> None:
        self.lineup, self.switch, self.shadow, self.metrics = lineup, switch, shadow, metrics
        self.most_candidates, self.together = settings.max_candidates, settings.score_together

    def answer_waiting(self, next_turn: NextTurn) -> None:
        """Answer the next request, and with it those that wait already, up to a number of candidates."""
        for batch in self._batches(next_turn):
            by_model: dict[int, list[Read]] = {}
            for read in batch:
                by_model.setdefault(id(read.served), []).append(read)
            for reads in by_model.values():
                self._answer(reads)

    def _batches(self, next_turn: NextTurn) -> Iterator[list[Read]]:
        """Yield what to score at once: small requests together, a large one by itself.

        A refusal ends it: those who keep sending what is refused would keep the requests before it from being scored.
        """
        batch: list[Read] = []
        candidates = 0
        while (turn := next_turn()) is not None:
            try:
                read = self._read(turn)
            except Elsewhere as elsewhere:  # not refused: it comes again, and counts then
                turn.outcome.set_exception(elsewhere)
                continue
            except Exception as error:
                turn.outcome.set_exception(error)
                break
            number = len(read.question.item_ids)
            if batch and candidates + number > self.together:
                yield batch
                batch, candidates = [], 0
            batch.append(read)
            candidates += number
            if candidates >= self.together:
                break
        if batch:
            yield batch

    def _read(self, turn: Turn) -> Read:
        ask, traffic = turn.ask, self.switch.now()
        served = self.lineup.choose(ask.body.head, ask.note.request_id, traffic)
        ask.note.model = f"{served.name.name}/{served.name.version}"
        question = served.scorer.reader.read(ask.body, self.most_candidates, turn.look_up)
        self.lineup.check(question.model)
        ask.note.candidates = len(question.item_ids)
        return Read(turn, traffic, served, question)

    def _answer(self, reads: list[Read]) -> None:
        """Score requests to one model, and settle each by itself."""
        self.metrics.together.observe(len(reads))
        found = reads[0].served.scorer.score_together([read.question for read in reads])
        for read, scores in zip(reads, found, strict=True):
            read.turn.settle(lambda read=read, scores=scores: self._written(read, scores))  # type: ignore[misc]

    def _written(self, read: Read, scores: Scores | Exception) -> bytes:
        if isinstance(scores, Exception):
            raise scores
        served, ask = read.served, read.turn.ask
        self.metrics.scored(scores, served.scorer)
        self.metrics.answered_by(served)
        if read.traffic.shadow:
            self._shadow(read, scores)
        head = {
            "request_id": ask.note.request_id,
            "model": {"name": served.name.name, "version": served.name.version, "role": served.role},
            "fusion": scores.fusion.model_dump(),
        }
        return write_answer(head, scores, served.scorer, ranked=ask.body.kind is RankRequest, arrow=ask.arrow)

    def _shadow(self, read: Read, scores: Scores) -> None:
        challenger = self.lineup.challenger.served if self.lineup.challenger else None
        if challenger is not None and read.served.role == "champion":
            turn = read.turn
            self.shadow.offer((turn.ask.body, read.served, scores.scores_BT, challenger, turn.look_up))

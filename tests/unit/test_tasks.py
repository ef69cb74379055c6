import pytest
from pydantic import ValidationError

from recsys_mtl.config import ConfigError, validate
from recsys_mtl.tasks import BinaryTask, RegressionTask, TaskBase, TaskSelection

CLICK = BinaryTask(name="click", weight=0.5)
BUY = BinaryTask(name="buy", space="click")
WATCH = RegressionTask(name="watch", label="play_ms")
TASKS = (CLICK, BUY, WATCH)


def problems_of(selection: TaskSelection) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        selection.of(TASKS)
    return caught.value.problems


def test_the_label_is_the_column_of_the_tasks_name_unless_another_is_given() -> None:
    assert [task.label_column for task in TASKS] == ["click", "buy", "play_ms"]


@pytest.mark.parametrize("name", ["", "1st", "a b", "a.b", "_a"])
def test_names_are_words(name: str) -> None:
    with pytest.raises(ValidationError):
        TaskBase(name=name)


def test_weights_are_not_negative() -> None:
    with pytest.raises(ValidationError):
        BinaryTask(name="a", weight=-0.1)


def test_nothing_selected_means_everything_as_it_is() -> None:
    assert TaskSelection().of(TASKS) == TASKS


def test_selection_sets_order_and_weights() -> None:
    chosen = TaskSelection(include=("watch", "click"), weights={"watch": 3}).of(TASKS)
    assert [(task.name, task.weight) for task in chosen] == [("watch", 3.0), ("click", 0.5)]
    assert chosen[0] == WATCH.model_copy(update={"weight": 3.0})


def test_a_weight_of_zero_is_a_weight() -> None:
    assert TaskSelection(weights={"click": 0}).of(TASKS)[0].weight == 0


def test_everything_that_is_wrong_is_named() -> None:
    assert problems_of(TaskSelection(include=("klick", "watch", "watch", "buy"), weights={"click": 2, "x": 1})) == (
        "tasks.include: no task 'klick' in the data set; it has click, buy, watch",
        "tasks.include: 'watch' is named 2 times",
        "tasks.include: 'buy' needs 'click', the task of its sample space",
        "tasks.weights.click: not a task of this run, which learns klick, watch, watch, buy",
        "tasks.weights.x: not a task of this run, which learns klick, watch, watch, buy",
    )


def test_an_empty_selection_is_refused() -> None:
    with pytest.raises(ConfigError, match="include: tuple should have at least 1 item"):
        validate(TaskSelection, {"include": []})

from itertools import permutations

import pytest
from pydantic import ValidationError

from recsys_mtl.config import ConfigError, load, validate
from recsys_mtl.tasks import BinaryTask, RegressionTask, Task, TaskBase, TaskSelection, funnel, task_groups, task_names

CLICK = BinaryTask(name="click", weight=0.5)
BUY = BinaryTask(name="buy", space="click")
WATCH = RegressionTask(name="watch", label="play_ms")
TASKS = (CLICK, BUY, WATCH)


def problems_of(selection: TaskSelection, tasks: tuple[Task, ...] = TASKS) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        selection.of(tasks)
    return caught.value.problems


def event(name: str, after: str | None = None, **fields: str) -> BinaryTask:
    return BinaryTask.model_validate({"name": name, "after": after, **fields})


SHOP: tuple[Task, ...] = (
    event("pay", after="cart", group="buy"),
    RegressionTask(name="price", group="buy"),
    event("cart", after="click", group="buy"),
    event("click"),
    event("like", after="click"),
)
"""A funnel told from its end."""


def links(tasks: tuple[Task, ...]) -> list[tuple[str, str]]:
    """Name the events of a funnel in its order."""
    names = task_names(tasks)
    return [(names[later], names[earlier]) for later, earlier in funnel(tasks)]


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


def test_a_funnel_goes_from_its_first_events_on() -> None:
    assert links(SHOP) == [("cart", "click"), ("like", "click"), ("pay", "cart")]
    assert funnel(SHOP) == ((2, 3), (4, 3), (0, 2))


@pytest.mark.parametrize("order", list(permutations(range(5)))[::7])
def test_an_event_comes_after_the_one_that_it_follows_whatever_the_order_of_the_tasks(order: tuple[int, ...]) -> None:
    found = links(tuple(SHOP[t] for t in order))
    assert sorted(found) == [("cart", "click"), ("like", "click"), ("pay", "cart")]
    assert found.index(("cart", "click")) < found.index(("pay", "cart"))


def test_tasks_that_follow_nothing_are_no_funnel() -> None:
    assert funnel(TASKS) == ()


BAD_FUNNELS: dict[str, tuple[tuple[Task, ...], tuple[str, ...]]] = {
    "unknown": ((event("buy", after="klick"), event("click")), ("buy.after: 'klick' is not another binary task",)),
    "an amount": (
        (event("buy", after="watch"), RegressionTask(name="watch")),
        ("buy.after: 'watch' is not another binary task",),
    ),
    "itself": ((event("buy", after="buy"),), ("buy.after: 'buy' is not another binary task",)),
    "a circle": (
        (event("a", after="c"), event("b", after="a"), event("c", after="b")),
        tuple(f"{name}.after: the funnel comes back to {name!r}" for name in "abc"),
    ),
    "a way into a circle": (
        (event("a", after="b"), event("b", after="c"), event("c", after="b")),
        tuple(f"{name}.after: the funnel comes back to {name!r}" for name in "bc"),
    ),
    "a space of its own": (
        (event("buy", after="click", space="click"), event("click")),
        ("buy.after: space and after exclude each other: on some rows only, or on all of them",),
    ),
    "after an event with a space": (
        (event("pay", after="cart"), event("cart", space="click"), event("click")),
        ("pay.after: 'cart' is learnt where 'click' happened only; a funnel is about every impression",),
    ),
}


@pytest.mark.parametrize("name", BAD_FUNNELS)
def test_a_funnel_that_makes_no_sense_is_refused(name: str) -> None:
    tasks, problems = BAD_FUNNELS[name]
    with pytest.raises(ConfigError) as caught:
        funnel(tasks)
    assert caught.value.problems == tuple(f"tasks.{problem}" for problem in problems)


def test_an_amount_follows_nothing() -> None:
    with pytest.raises(ValidationError, match="after"):
        RegressionTask.model_validate({"name": "price", "after": "pay"})


def test_groups_are_sorted() -> None:
    assert task_groups(SHOP) == ("all", "buy")
    assert task_groups(SHOP[::-1]) == ("all", "buy")


def test_selection_sets_groups() -> None:
    chosen = TaskSelection(groups={"price": "amounts", "like": "buy"}).of(SHOP)
    assert [task.group for task in chosen] == ["buy", "amounts", "buy", "all", "buy"]
    assert [task.model_copy(update={"group": "x"}) for task in chosen] == [
        task.model_copy(update={"group": "x"}) for task in SHOP
    ]


def test_selection_sets_the_funnel() -> None:
    assert links(TaskSelection(after={"pay": "click"}).of(SHOP)) == [
        ("pay", "click"),
        ("cart", "click"),
        ("like", "click"),
    ]
    assert links(TaskSelection(after={"like": None, "pay": None}).of(SHOP)) == [("cart", "click")]
    assert links(TaskSelection().of(SHOP)) == links(SHOP)


def test_the_data_sets_funnel_holds_as_far_as_both_of_its_events_are_learnt() -> None:
    chosen = TaskSelection(include=("pay", "click", "like")).of(SHOP)
    assert links(chosen) == [("like", "click")]
    assert links(TaskSelection(include=("pay", "click"), after={"pay": "click"}).of(SHOP)) == [("pay", "click")]


@pytest.mark.parametrize(
    ("after", "problem"),
    [
        ({"pay": "klick"}, "pay: 'klick' is not another binary task"),
        ({"pay": "price"}, "pay: 'price' is not another binary task"),
        ({"click": "cart", "like": None, "pay": None}, "cart: the funnel comes back to 'cart'"),
        ({"price": "pay"}, "price: only an event can follow another"),
        ({"price": None}, "price: only an event can follow another"),
        ({"klick": "pay"}, "klick: not a task of this run, which learns pay, price, cart, click, like"),
    ],
)
def test_a_funnel_of_a_run_that_makes_no_sense_is_refused(after: dict[str, str | None], problem: str) -> None:
    assert problems_of(TaskSelection(after=after), SHOP)[0] == f"tasks.after.{problem}"


def test_an_event_cannot_follow_one_that_is_not_learnt() -> None:
    selection = TaskSelection(include=("pay", "like"), after={"pay": "click"})
    assert problems_of(selection, SHOP) == ("tasks.after.pay: 'click' is not another binary task",)


def test_a_task_with_a_space_is_not_taken_into_a_funnel() -> None:
    problems = problems_of(TaskSelection(after={"buy": "click"}))
    assert problems == ("tasks.after.buy: space and after exclude each other: on some rows only, or on all of them",)


def test_groups_and_funnel_of_tasks_that_are_not_learnt_are_refused() -> None:
    selection = TaskSelection(
        include=("click", "klick"), groups={"like": "x"}, after={"like": "click", "klick": "click"}
    )
    assert problems_of(selection, SHOP) == (
        "tasks.include: no task 'klick' in the data set; it has pay, price, cart, click, like",
        "tasks.groups.like: not a task of this run, which learns click, klick",
        "tasks.after.like: not a task of this run, which learns click, klick",
    )


def test_an_override_can_take_an_event_out_of_its_funnel() -> None:
    assert load(TaskSelection, ["after.like=null", "after.pay=click"]).after == {"like": None, "pay": "click"}

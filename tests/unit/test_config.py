import copy
import pickle
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from recsys_mtl.config import Config, ConfigError, load, merge, read_yaml, validate


class Linear(Config):
    kind: Literal["linear"] = "linear"
    rate: PositiveFloat = 0.1


class Tree(Config):
    kind: Literal["tree"] = "tree"
    depth: PositiveInt = 3
    shrink: float = 0.5
    leaf: Annotated[Linear | None, Field()] = None


class Data(Config):
    path: Path
    lanes: PositiveInt = 8


class Range(Config):
    low: int = 0
    high: int = 1

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low > self.high:
            raise ConfigError([f"low: {self.low} is above high", f"high: {self.high} is below low"])
        return self


class Run(Config):
    data: Data
    model: Annotated[Linear | Tree, Field(discriminator="kind")] = Tree()
    stages: Annotated[tuple[Annotated[Linear | Tree, Field(discriminator="kind")], ...], Field(min_length=2)] = (
        Tree(),
        Tree(),
    )
    limits: Range = Range()
    seed: int = 0
    weights: dict[str, float] = {}


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def problems_of(*sources: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(Run, sources)
    return caught.value.problems


KEYS = st.sampled_from(["a", "b", "c", "kind"])
LEAVES = st.none() | st.integers(0, 3) | st.sampled_from(["x", "y"]) | st.lists(st.integers(0, 1), max_size=2)
FLAT = st.dictionaries(KEYS, LEAVES, max_size=3)
TREES = st.recursive(FLAT, lambda tree: st.dictionaries(KEYS, LEAVES | tree, max_size=3))


@given(TREES)
def test_an_empty_tree_changes_nothing_on_either_side(tree: dict[str, Any]) -> None:
    assert merge(tree, {}) == tree
    assert merge({}, tree) == tree


@given(TREES)
def test_merging_a_tree_with_itself_gives_the_tree(tree: dict[str, Any]) -> None:
    assert merge(tree, tree) == tree


@given(TREES, TREES)
def test_every_leaf_of_the_right_tree_wins(base: dict[str, Any], over: dict[str, Any]) -> None:
    for path, leaf in leaves(over):
        assert at(merge(base, over), path) == leaf


@given(TREES, TREES)
def test_what_the_right_tree_does_not_mention_stays_unless_the_kind_changes(
    base: dict[str, Any], over: dict[str, Any]
) -> None:
    merged = merge(base, over)
    if over.get("kind", base.get("kind")) == base.get("kind"):
        assert merged.keys() == base.keys() | over.keys()
        assert all(merged[key] == base[key] for key in base.keys() - over.keys())
    else:
        assert merged == over


@given(TREES, TREES)
def test_both_trees_stay_as_they_are(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = copy.deepcopy((base, over))
    merge(base, over)
    assert (base, over) == before


def test_another_kind_replaces_at_any_depth() -> None:
    base = {"model": {"bottom": {"kind": "a", "width": 3}, "dim": 1}}
    over = {"model": {"bottom": {"kind": "b"}}}
    assert merge(base, over) == {"model": {"bottom": {"kind": "b"}, "dim": 1}}


def leaves(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(tree, dict):
        return [(path, tree)]
    return [leaf for key, value in tree.items() for leaf in leaves(value, (*path, key))]


def at(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def test_later_sources_win(tmp_path: Path) -> None:
    first = write(tmp_path / "1.yaml", "seed: 1\ndata: {path: here, lanes: 2}")
    second = write(tmp_path / "2.yaml", "seed: 2\nmodel: {depth: 5}")
    run = load(Run, [first, second, "seed=3", "data.path=there", "seed=4"])
    assert run == Run(data=Data(path=Path("there"), lanes=2), model=Tree(depth=5), seed=4)


def test_one_leaf_keeps_the_default_kind_and_its_siblings() -> None:
    assert load(Run, ["data.path=x", "model.shrink=0.25"]).model == Tree(shrink=0.25)


def test_naming_the_default_kind_keeps_its_siblings(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "data: {path: x}\nmodel: {depth: 7}")
    assert load(Run, [file, "model.kind=tree"]).model == Tree(depth=7)


def test_another_kind_starts_from_its_own_defaults() -> None:
    sources = ["data.path=x", "model.depth=7", "model.kind=linear", "model.rate=0.5"]
    assert load(Run, sources).model == Linear(rate=0.5)


def test_values_are_read_as_yaml() -> None:
    run = load(Run, ["data.path=x", "weights={a: 1, b: .inf}", "model.leaf=null", "data.lanes= 3"])
    assert run.weights == {"a": 1.0, "b": float("inf")}
    assert run.data.lanes == 3


def test_a_value_may_hold_equals_signs_slashes_and_any_number_of_letters() -> None:
    path = "s3://bucket/a=1/" + "x" * 5000
    assert str(load(Run, [f"data.path={path}"]).data.path) == str(Path(path))


def test_a_source_with_a_slash_before_the_equals_sign_is_a_file(tmp_path: Path) -> None:
    file = write(tmp_path / "seed=9.yaml", "seed: 5\ndata: {path: x}")
    assert load(Run, [file]).seed == 5


def test_numbers_that_yaml_reads_as_text_become_numbers(tmp_path: Path) -> None:
    file = write(tmp_path / "a.yaml", "data: {path: x}\nmodel: {kind: linear, rate: 3e-4}")
    assert read_yaml(Path(file))["model"]["rate"] == "3e-4"  # what makes this worth a test
    assert load(Run, [file]).model == Linear(rate=0.0003)
    assert load(Run, [file, "model.rate=1e-2"]).model == Linear(rate=0.01)


def test_an_empty_file_is_an_empty_tree(tmp_path: Path) -> None:
    assert load(Run, [write(tmp_path / "a.yaml", "# nothing\n"), "data.path=x"]).seed == 0


def test_a_resolved_tree_loads_again() -> None:
    run = load(Run, ["data.path=x", "model.kind=linear", "weights.a=2"])
    assert validate(Run, run.model_dump(mode="json")) == run


def test_all_at_once_by_path() -> None:
    sources = ["model.depth=0", "seed=x", "data.lane=3", "limits.low=many", "stages=[{kind: tree, depth: 1.5}, {}]"]
    assert problems_of(*sources) == (
        "data.path: field required",
        "data.lane: unknown field",
        "model.depth: input should be greater than 0 (got 0)",
        "stages.0.depth: input should be a valid integer, got a number with a fractional part (got 1.5)",
        "stages.1.kind: field required",
        "limits.low: input should be a valid integer, unable to parse string as an integer (got 'many')",
        "seed: input should be a valid integer, unable to parse string as an integer (got 'x')",
    )


def test_a_list_that_is_too_short_is_named_only_if_it_was_written_so() -> None:
    assert problems_of("data.path=x", "stages=[{kind: tree}]") == (
        "stages: tuple should have at least 2 items after validation, not 1 (got [{'kind': 'tree'}])",
    )


def test_an_unknown_kind_names_the_known_ones() -> None:
    assert problems_of("data.path=x", "model.kind=forest") == (
        "model.kind: expected one of 'linear', 'tree' (got 'forest')",
    )


def test_a_key_of_a_kind_that_was_replaced_is_unknown() -> None:
    assert problems_of("data.path=x", "model.kind=linear", "model.depth=3") == ("model.depth: unknown field",)


def test_each_problem_of_one_validator_has_its_path() -> None:
    assert problems_of("data.path=x", "limits={low: 5, high: 2}") == (
        "limits.low: 5 is above high",
        "limits.high: 2 is below low",
    )


def test_every_unreadable_source_is_named(tmp_path: Path) -> None:
    broken = write(tmp_path / "broken.yaml", "seed: 1\nmodel: [1, 2\n")
    listed = write(tmp_path / "list.yaml", "- 1\n")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    absent = str(tmp_path / "absent.yaml")
    problems = problems_of(absent, broken, listed, str(binary), str(tmp_path), "a..b=1", "=1", "seed={")
    assert problems[0] == f"{absent}: No such file or directory"
    assert problems[1].startswith(f"{broken}: not valid YAML: ")
    assert "line 3" in problems[1]
    assert problems[2] == f"{listed}: expected a mapping of fields, got list"
    assert problems[3].startswith(f"{binary}: not valid YAML: 'utf-8' codec can't decode")
    assert problems[4] == f"{tmp_path}: Is a directory"
    assert problems[5:7] == ("a..b=1: expected path.to.field=value", "=1: expected path.to.field=value")
    assert problems[7].startswith("seed: not valid YAML: ")
    assert len(problems) == 8
    assert not any("\n" in problem for problem in problems)


def test_a_prefix_names_the_file() -> None:
    with pytest.raises(ConfigError, match=r"^run\.yaml: data: field required$"):
        validate(Run, {}, where="run.yaml: ")


def test_long_values_are_cut() -> None:
    assert len(problems_of("data.path=x", "seed=" + "y" * 500)[0]) < 200


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(ConfigError(["a: b", "c: d"])))
    assert error.problems == ("a: b", "c: d")
    assert str(error) == "a: b\nc: d"


def test_configs_do_not_change() -> None:
    run = Run(data=Data(path=Path("x")))
    with pytest.raises(ValidationError, match="frozen"):
        run.seed = 1  # type: ignore[misc]


def test_fields_are_documented_under_their_names() -> None:
    class Documented(Config):
        width: int = 1
        """How wide."""

    assert Documented.model_json_schema()["properties"]["width"]["description"] == "How wide."

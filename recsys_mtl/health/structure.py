"""Which experts and gates of a model belong together: its layers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from recsys_mtl.health.records import BankRecord, GateRecord, ModuleRecord


@dataclass(frozen=True)
class Layer:
    """Experts and the gates that choose from them."""

    name: str
    banks: tuple[BankRecord, ...]
    gates: tuple[GateRecord, ...]
    self_gates: tuple[GateRecord, ...]
    """Those whose weights come on top of the gates'."""


def layers(banks: Sequence[BankRecord], gates: Sequence[GateRecord]) -> tuple[Layer, ...]:
    """Put a gate and the banks that it chooses from into one layer, in the order of the model's modules.

    A layer has the name of the module that holds its banks and gates; where that holds several layers, the beginning
    that the names of the layer's parts have in common is added.
    """
    members: list[set[str]] = [{bank.name} for bank in banks]
    for gate in gates:
        together = {gate.name, *(bank.name for bank in _choice(gate, banks))}
        members = [group for group in members if not group & together] + [
            together.union(*(group for group in members if group & together))
        ]
    records: tuple[ModuleRecord, ...] = (*banks, *gates)
    order = {record.name: place for place, record in enumerate(records)}
    members.sort(key=lambda group: min(order[name] for name in group))
    return tuple(
        Layer(
            name,
            tuple(bank for bank in banks if bank.name in group),
            tuple(gate for gate in gates if gate.name in group and not gate.is_self),
            tuple(gate for gate in gates if gate.name in group and gate.is_self),
        )
        for name, group in zip(_names(members), members, strict=True)
    )


def _choice(gate: GateRecord, banks: Sequence[BankRecord]) -> list[BankRecord]:
    """Return the banks of the gate's experts: those nearest to it, if several have experts of that name."""
    wanted = {name for choice in gate.experts for name in choice}
    for module in _around(gate.name):
        near = [bank for bank in banks if _inside(bank.name, module) and wanted & set(bank.experts)]
        if wanted <= {name for bank in near for name in bank.experts}:
            return near
    return []


def _around(name: str) -> Iterator[str]:
    """Yield the modules around one, the innermost first."""
    while name:
        name = name.rpartition(".")[0]
        yield name


def _inside(name: str, module: str) -> bool:
    return not module or name.startswith(module + ".")


def _names(members: Sequence[set[str]]) -> list[str]:
    holders = [".".join(_beginning([name.split(".")[:-1] for name in group])) for group in members]
    return [
        holder if holders.count(holder) == 1 else _own_name(holder, group)
        for holder, group in zip(holders, members, strict=True)
    ]


def _own_name(holder: str, group: set[str]) -> str:
    """Name one of several layers of a module: ``meta`` for ``meta_gate`` and ``meta_experts``."""
    ends = [name.removeprefix(holder).lstrip(".") for name in sorted(group)]
    own = "".join(_beginning(ends)).rstrip("_.") or ends[0]
    return ".".join(part for part in (holder, own) if part)


def _beginning(sequences: Sequence[Sequence[str]]) -> list[str]:
    """Return what all sequences begin with."""
    columns = zip(*sequences, strict=False)
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]

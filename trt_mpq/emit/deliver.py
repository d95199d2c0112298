"""The files a plan is delivered as."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from trt_mpq.artifacts.files import to_json, write_text
from trt_mpq.artifacts.folder import make_folder
from trt_mpq.emit.describe import describe_placement
from trt_mpq.emit.emitter import Emitter
from trt_mpq.errors import ModelError
from trt_mpq.model import save_graph
from trt_mpq.types import Precision, PrecisionPlan

FLAVOUR_FILES = (
    "plan.json", "placement.txt", "reference.onnx", "reference.onnx.data", "typed.onnx", "typed.onnx.data", "weak.onnx",
    "weak.onnx.data", "constraints.json",
)  # fmt: skip
"""Every file a delivery may hold; the `.data` files exist only beside graphs of more than 1.5 GB.

`constraints.json` lies beside `weak.onnx`: its node names and the precision each has to be pinned to.
"""


@dataclass(frozen=True)
class Delivery:
    """What was written.

    `portable` says whether ONNX Runtime runs the typed file; `weak_missing` why there is no weakly typed one, None if
    there is one.
    """

    plan: str
    deployable: bool
    typed_bytes: int
    weak_missing: str | None
    portable: bool = True

    @property
    def tested(self) -> str:
        """The file that is run in ONNX Runtime to be compared: the typed one, or the reference that means the same."""
        return "typed.onnx" if self.portable else "reference.onnx"


def deliver(emitter: Emitter, plan: PrecisionPlan, folder: Path) -> Delivery:
    """Write `plan` into `folder`, created if absent: as JSON, and in every flavour that can express it.

    Raises:
        RunFolderError: A file cannot be written.
        InterfaceError: A file would have other inputs or outputs than the network, which is a defect of this program.
    """
    make_folder(folder)
    write_text(folder / "plan.json", to_json(plan.as_dict(), dict[str, str]))
    for name in FLAVOUR_FILES[1:]:  # of an earlier plan, which may have had a weak flavour or larger files
        (folder / name).unlink(missing_ok=True)
    reference = _reference(emitter, plan)
    emitter.interface.require(reference)
    save_graph(reference, folder / "reference.onnx")
    strong = emitter.strong(plan)
    emitter.interface.require(strong)
    save_graph(strong, folder / "typed.onnx")
    write_text(folder / "placement.txt", describe_placement(strong.graph))
    return Delivery(
        plan=plan.digest,
        deployable=plan.deployable,
        typed_bytes=sum(path.stat().st_size for path in folder.glob("typed.onnx*")),
        weak_missing=_deliver_weak(emitter, plan, folder),
        portable=plan.portable,
    )


def holds_reference(path: Path, emitter: Emitter, plan: PrecisionPlan) -> bool:
    """Whether the file is the reference flavour of `plan` byte for byte; False for one whose weights lie beside it."""
    if path.with_name(f"{path.name}.data").exists():
        return False
    return path.read_bytes() == bytes(ir.to_proto(_reference(emitter, plan)).SerializeToString())


def _reference(emitter: Emitter, plan: PrecisionPlan) -> ir.Model:
    """What `reference.onnx` holds: what was evaluated, with constants that keep others from computing it otherwise."""
    graph = emitter.reference(plan)
    _keep_summation_order(graph.graph)
    return graph


def _keep_summation_order(graph: ir.Graph) -> None:
    """Let every optimization level of ONNX Runtime compute the same bits, by making some constants overridable.

    At its default level ONNX Runtime re-blocks convolutions whose weights are constant, which sums in another
    order, and takes scalar factors around a MatMul, such as the scale of an FP8 quantizer, into the product;
    quantizers turn the last bit into another code now and then (measured: 2 of 2,000 images change class). A
    constant that is also a graph input, with its value as the default, is left as it is.
    """
    for value in (value for node in graph for value in _rearranged(node)):
        if value.is_initializer() and not value.is_graph_input():
            graph.inputs.append(value)


def _rearranged(node: ir.Node) -> Iterator[ir.Value]:
    """Constants that make ONNX Runtime compute `node` differently from how the graph says."""
    operands = [value for value in node.inputs if value is not None]
    if node.op_type in ("Conv", "ConvTranspose"):
        yield operands[1]
    if node.op_type == "MatMul":
        neighbours = (*(value.producer() for value in operands), *(use.node for use in node.outputs[0].uses()))
        for neighbour in neighbours:
            if neighbour is not None and neighbour.op_type in ("Mul", "Div"):
                yield from (value for value in neighbour.inputs if value is not None and _is_scalar(value))


def _is_scalar(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.size == 1


def _deliver_weak(emitter: Emitter, plan: PrecisionPlan, folder: Path) -> str | None:
    try:
        graph = emitter.weak(plan)
    except ModelError as error:
        return str(error)
    emitter.interface.require(graph)
    save_graph(graph, folder / "weak.onnx")
    write_text(folder / "constraints.json", to_json(emitter.constraints(plan), dict[str, Precision]))
    return None

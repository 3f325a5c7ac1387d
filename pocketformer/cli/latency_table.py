"""A latency table in the terminal: a row a block, a column a shape."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pocketformer.pipeline.latency import Tabled
    from pocketformer.targets.latency_table import BlockCosts


def print_table(tabled: Tabled) -> None:
    """Print the table of each form of the graph, then what it holds for and where it lies."""
    from rich.table import Table

    from pocketformer.cli.output import stdout_console

    console = stdout_console()
    for precision, by_shape in tabled.table.costs.items():
        table = Table(title=f"{precision}, ms", title_justify="left", box=None, pad_edge=True)
        table.add_column("", no_wrap=True)
        for batch, sequence in by_shape:
            table.add_column(f"{batch} x {sequence}", justify="right")
        columns = [_rows(costs) for costs in by_shape.values()]
        for index, (name, _) in enumerate(columns[0]):
            table.add_row(name, *(f"{column[index][1]:.3f}" for column in columns))
        console.print(table)
        console.print()
    about = tabled.table.about
    processor = about["processor"]["model"]
    console.print(
        f"{processor}, {about['threads']} threads, onnxruntime {about['onnxruntime']}.", markup=False
    )
    took = f"measured in {tabled.seconds:.0f} s" if tabled.seconds else "measured earlier"
    console.print(f"{tabled.path} ({took})", markup=False, soft_wrap=True)


def _rows(costs: BlockCosts) -> list[tuple[str, float]]:
    """The parts of a sum, by name."""
    return [
        ("a call, embeddings, head", costs.fixed_ms),
        ("a layer", costs.layer_ms),
        *((f"+ {heads} heads", ms) for heads, ms in costs.attention.points),
        *((f"+ {neurons} neurons", ms) for neurons, ms in costs.ffn.points),
        *((f"last layer, {heads} heads", ms) for heads, ms in costs.last_attention.points),
        *((f"last layer, {neurons} neurons", ms) for neurons, ms in costs.last_ffn.points),
    ]

"""The parts of the schema that say whether a latency was to be expected, and what bounds it."""

from __future__ import annotations

from typing import Optional

from pydantic import Field

from pocketformer.report.parts import Amount, Count, Part, Share, Text


class Prediction(Part):
    """What the latency table of this device foretells for the result, beside what was measured."""

    precision: Text = Field(description="The form of the graph in the table, for example `int8-fused`.")
    latency_ms: dict[str, Amount] = Field(description="Per workload, the sum of the table's blocks, ms.")
    error: dict[str, float] = Field(
        description="Per workload: predicted over measured median, less 1; 0.1 means foretold a tenth too long."
    )
    median_error: Amount = Field(description="Median of the errors' absolute values.")


class RooflineShare(Part):
    """The result on one workload against what this machine can multiply."""

    macs: Count = Field(description="Multiply-accumulates of one call's products, as onnxruntime ran them.")
    macs_per_s: Amount = Field(description="These over the median latency.")
    share: Amount = Field(description="Of the int8 roof.")
    product_share: Amount = Field(
        description="What the products reach in the time that goes into them and attention, of the int8 roof."
    )
    time: dict[Text, Share] = Field(
        description="Where the time of a profiled call goes: `products`, `attention`, and other operators by name."
    )
    bound_by: Text = Field(description="What bounds it, in a sentence.")


class Roofline(Part):
    """What this machine can multiply and move, and the result's share of it."""

    int8_macs_per_s: Amount = Field(description="Of a product of `size` cubed in onnxruntime, int8.")
    fp32_macs_per_s: Optional[Amount] = Field(default=None, description="The same in fp32.")
    memory_bytes_per_s: Optional[Amount] = Field(
        default=None, description="Bytes read and written by a copy in memory with as many threads."
    )
    size: Count = Field(description="Rows, inner size and columns of the products.")
    workloads: dict[str, RooflineShare] = Field(description="Per workload.")

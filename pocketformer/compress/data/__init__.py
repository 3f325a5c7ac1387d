"""Data for a run: tables read strictly, three honest splits, and an account of what was removed."""

from __future__ import annotations

from pocketformer.compress.data.config import DataConfig
from pocketformer.compress.data.dataset import DataAudit, Dataset, Splits, TestDataset, TestFingerprint
from pocketformer.compress.data.splits import prepare_splits, read_test, test_fingerprint
from pocketformer.compress.data.table import Rows, read_rows

__all__ = [
    "DataAudit",
    "DataConfig",
    "Dataset",
    "Rows",
    "Splits",
    "TestDataset",
    "TestFingerprint",
    "prepare_splits",
    "read_rows",
    "read_test",
    "test_fingerprint",
]

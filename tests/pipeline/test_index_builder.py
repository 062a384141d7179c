"""The viewer's index while its files cannot be read."""

import numpy as np
import pytest

from geo.errors import DatasetError, StorageError
from pipeline.viewer.index_builder import IndexBuilder


class FailingGroups:
    """Row groups of a server that stopped to answer."""

    starts = np.arange(0, 1000, 100)

    def __init__(self, error):
        self._error = error

    def __len__(self):
        return len(self.starts) - 1

    def read(self, group, columns):
        raise self._error


@pytest.mark.parametrize(
    "error", [StorageError("the server is gone"), DatasetError("a shard is gone"), OSError("x")]
)
def test_a_file_that_cannot_be_read_is_told(error):
    with IndexBuilder(FailingGroups(error)) as builder:
        assert builder.wait(30)
        assert builder.problem == str(error)

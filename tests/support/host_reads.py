"""Counts how often the host would wait for the device, on a machine without one.

On a GPU each read of a tensor by the host waits until the device has computed it. The same code on the CPU makes
the same reads, so that they can be counted there.
"""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode

METHODS = ("cpu", "tolist", "item", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__")
"""Methods of a tensor that hand its numbers to Python."""

SIZED_BY_VALUES = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::bincount",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::equal",
    "aten::repeat_interleave.Tensor",
}
"""Operations that read a tensor to know what to return; ``nonzero`` is also in an index by a mask."""


class _Operations(TorchDispatchMode):
    def __init__(self, reads):
        super().__init__()
        self._reads = reads

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = operation.name()
        by_mask = name.startswith(("aten::index.", "aten::index_put")) and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        # Unless told that its lengths are right, it reads them twice: the smallest and the sum.
        checks = name == "aten::segment_reduce" and not kwargs.get("unsafe", False)
        if name in SIZED_BY_VALUES or by_mask or checks:
            self._reads.append(name)
        return operation(*args, **kwargs)


class _Methods:
    """Stands in for the methods of a tensor. One of them may call another, which is the same read."""

    def __init__(self, reads):
        self._reads = reads
        self._reading = False
        self._on_host = []  # kept, so that no other tensor gets the id of one of them

    def counting(self, name, original):
        def method(tensor, *args, **kwargs):
            if self._reading or any(tensor is moved for moved in self._on_host):
                return original(tensor, *args, **kwargs)
            self._reads.append(name)
            self._reading = True
            try:
                result = original(tensor, *args, **kwargs)
            finally:
                self._reading = False
            if name == "cpu":
                result = result.clone()
                self._on_host.append(result)
            return result

        return method


@contextmanager
def host_reads(monkeypatch):
    """Collects the name of each read. What ``cpu`` returned is on the host, and may be read for nothing."""
    reads = []
    methods = _Methods(reads)
    with monkeypatch.context() as patched, _Operations(reads):
        for name in METHODS:
            patched.setattr(torch.Tensor, name, methods.counting(name, getattr(torch.Tensor, name)))
        yield reads

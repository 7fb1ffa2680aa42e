"""A GPU that is not there: the CPU computes, and each tensor is said to lie on the host or on the device.

On a GPU the host waits where it reads a tensor of the device, where it copies ordinary memory to the device, and
where the size of a result depends on values. The same code makes the same calls here, so that they can be counted.
Tensors from before the GPU was there, and all that is computed from them, lie on the device.
"""

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

GPU, HOST = torch.device("cuda"), torch.device("cpu")

READS = ("cpu", "tolist", "item", "numpy", "__array__", "__bool__", "__int__", "__float__", "__index__", "__complex__",
         "__repr__", "__format__", "__contains__")  # fmt: skip
"""Methods that hand the numbers of a tensor to Python."""

FROM_DATA = ("tensor", "as_tensor", "asarray", "new_tensor")

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

TAKES_HOST_TENSORS = ("lstm",)
"""cuDNN wants the lengths of packed sequences on the host."""


@dataclass
class Traffic:
    """Names of calls: those at which the host waits for the device, and copies for which it does not wait."""

    waits: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    downloads: list[str] = field(default_factory=list)
    """Whoever reads one must have waited for the device since."""


class _Operations(TorchDispatchMode):
    """Sees what no call in Python shows."""

    def __init__(self, place):
        super().__init__()
        self._place = place

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = operation.name()
        by_mask = name.startswith(("aten::index.", "aten::index_put")) and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        # Unless told that its lengths are right, it reads them twice: the smallest and the sum.
        checks = name == "aten::segment_reduce" and not kwargs.get("unsafe", False)
        if (name in SIZED_BY_VALUES or by_mask or checks) and not self._place.quiet:
            self._place.traffic.waits.append(name)
        with torch._C.DisableTorchFunction():  # in a gradient, the other mode would see the operation as a call
            return operation(*args, **kwargs)


class _Place(TorchFunctionMode):
    """Knows of each tensor where it lies."""

    def __init__(self, on_host):
        super().__init__()
        self.traffic = Traffic()
        self.quiet = False
        self._host = WeakIdKeyDictionary()
        for tensor in on_host:
            self._put(tensor, HOST)
        self._locked = WeakIdKeyDictionary()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        special: Callable | None = getattr(self, f"_on_{name.strip('_')}", None)
        if name == "__get__":
            return self._attribute(func, *args)
        if special is not None:
            return special(func, *args, **kwargs)
        if name in READS:
            return self._read(name, func, args, kwargs)
        return self._computed(name, func, args, kwargs)

    def of(self, tensor):
        return HOST if tensor in self._host else GPU

    def _attribute(self, func, tensor):
        if func == torch.Tensor.device.__get__:
            return self.of(tensor)
        if func == torch.Tensor.is_cuda.__get__:
            return self.of(tensor) == GPU
        found = func(tensor)
        if isinstance(found, torch.Tensor) and found is not tensor:
            self._put(found, self.of(tensor))
        return found

    def _put(self, tensor, place):
        if place == HOST:
            self._host[tensor] = True
        return tensor

    def _read(self, name, func, args, kwargs):
        if self.of(args[0]) == HOST:
            return self._silently(func, args, kwargs)
        self.traffic.waits.append(name)
        found = self._silently(func, args, kwargs)
        return self._put(found.clone(), HOST) if name == "cpu" else found

    def _silently(self, func, args, kwargs):
        """A read that was counted, or that is on the host, is not to be counted again below."""
        self.quiet = True
        try:
            return func(*args, **kwargs)
        finally:
            self.quiet = False

    def _computed(self, name, func, args, kwargs):
        target = kwargs.pop("device", None)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        arrays = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, np.ndarray)]
        places = {self.of(tensor) for tensor in tensors}
        if target is not None:
            place = torch.device(torch.device(target).type)
        else:
            place = GPU if GPU in places else HOST
        there = sum(self.of(tensor) == HOST and tensor.ndim > 0 for tensor in tensors) + len(arrays)
        if place == GPU and (name in FROM_DATA or (there and name not in TAKES_HOST_TENSORS)):
            self.traffic.waits.append(name)
        found = func(*args, **kwargs)
        known = {id(tensor) for tensor in tensors}
        for leaf in tree_leaves(found):
            if isinstance(leaf, torch.Tensor) and id(leaf) not in known:
                self._put(leaf, place)
        return found

    def _on_pin_memory(self, _func, tensor):
        assert self.of(tensor) == HOST, "only memory of the host can be locked"
        assert 0 not in tensor.stride(), "the copy has the same strides, and elements that share a place"
        pinned = self._put(tensor.clone(), HOST)
        self._locked[pinned] = True
        return pinned

    def _on_to(self, func, tensor, *args, copy=False, **kwargs):
        target, dtype, without_wait, _ = torch._C._nn._parse_to(*args, **kwargs)
        source = self.of(tensor)
        target = source if target is None else torch.device(target.type)
        if source == target:
            found = func(tensor, tensor.dtype if dtype is None else dtype, copy=copy)
            return found if found is tensor else self._put(found, target)
        if target == GPU and without_wait and tensor in self._locked:
            self.traffic.uploads.append("to")
        elif target == HOST and without_wait:
            self.traffic.downloads.append("to")
        else:
            self.traffic.waits.append("to")
        copied = tensor.clone() if dtype is None else func(tensor, dtype, copy=True)
        return self._put(copied, target)

    def on_host(self, function):
        """The function, which no mode sees, with results that are known to lie on the host."""
        return lambda *args, **kwargs: self._put(function(*args, **kwargs), HOST)

    def within(self, function):
        """The function under this mode."""

        def seen(*args, **kwargs):
            with self:
                return function(*args, **kwargs)

        return seen


@contextmanager
def stand_in_gpu(monkeypatch, on_host=()):
    """Collects the traffic between host and device; of the tensors from before, those ``on_host`` are there."""
    place = _Place(on_host)
    # It asks in C++, where nothing answers for the GPU; all parameters lie there.
    grouped = torch.optim.Optimizer._group_tensors_by_device_and_dtype

    def on_the_gpu(*args, **kwargs):
        return {(GPU, dtype): group for (_, dtype), group in grouped(*args, **kwargs).items()}

    with ExitStack() as stack:
        patched = stack.enter_context(monkeypatch.context())
        patched.setattr(torch.optim.Optimizer, "_group_tensors_by_device_and_dtype", staticmethod(on_the_gpu))
        for name in ("from_numpy", "frombuffer"):
            patched.setattr(torch, name, place.on_host(getattr(torch, name)))
        # The mode is off within a call, but a gradient may be written in Python.
        patched.setattr(
            torch.autograd, "_engine_run_backward", place.within(torch.autograd._engine_run_backward)
        )
        stack.enter_context(_Operations(place))
        stack.enter_context(place)
        yield place.traffic

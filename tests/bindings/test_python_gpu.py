"""Tests the Python package with a GPU: the calls that are refused there, and the places of addresses and streams. The
GPU is the stand-in for the driver (tests/fake/fake_cuda.c); its memory is real, and its kernels do nothing. Where a
tensor on the GPU is needed, a small class stands in for torch's."""

import ctypes
import os
import sys
import types
import unittest
import unittest.mock

import numpy

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from python_binding import BUILD, D, HEAD_DIM, HEADS, PAGE, SPEC, ints, random_weights, xq

DRIVER = os.path.join(BUILD, "tests", "libfake_cuda.so")


class Function(ctypes.Structure):
    """The structure fake_cuda_function of tests/support/fake_cuda.h."""

    _fields_ = [("name", ctypes.c_char * 64), ("module", ctypes.c_void_p), ("shared_bytes", ctypes.c_int)]


class Launch(ctypes.Structure):
    """The structure fake_cuda_launch."""

    _fields_ = [("name", ctypes.c_char * 64), ("grid", ctypes.c_uint * 3), ("block", ctypes.c_uint * 3),
                ("shared_bytes", ctypes.c_uint), ("cluster", ctypes.c_uint * 3), ("stream", ctypes.c_void_p),
                ("module", ctypes.c_void_p), ("params", ctypes.c_char * 512), ("params_bytes", ctypes.c_size_t)]


class State(ctypes.Structure):
    """The structure fake_cuda_state."""

    _fields_ = [("device", ctypes.c_int * 6), ("capability", ctypes.c_int * 8), ("fail_function", ctypes.c_char_p),
                ("fail_result", ctypes.c_int), ("calls", ctypes.c_char * 8192), ("retained", ctypes.c_int),
                ("modules", ctypes.c_int), ("events", ctypes.c_int), ("launch_count", ctypes.c_int), ("streams", ctypes.c_int),
                ("graphs", ctypes.c_int), ("clock", ctypes.c_double), ("ptx_modules", ctypes.c_int),
                ("functions", Function * 64), ("launches", Launch * 16)]


class Tensor:
    """The parts of torch's tensor that the package uses."""

    def __init__(self, shape, dtype, device, address=0x7000_0000_0000):
        self.shape, self.dtype, self.device, self.address = shape, f"torch.{dtype}", device, address

    def is_contiguous(self):
        return True

    def data_ptr(self):
        return self.address

    def numel(self):
        return int(numpy.prod(self.shape))

    def element_size(self):
        return {"float16": 2, "float32": 4, "int32": 4, "uint8": 1}[self.dtype[6:]]


def fake_torch(stream):
    """Returns a stand-in for the module torch. Its current stream on GPU n is `stream` + n."""
    def made(shape, dtype, device):
        if isinstance(device, str):
            device = types.SimpleNamespace(type="cuda", index=int(device[5:]))
        return Tensor(shape if isinstance(shape, tuple) else (shape,), dtype, device)

    cuda = types.SimpleNamespace(is_available=lambda: True, is_initialized=lambda: True,
                                 current_stream=lambda index: types.SimpleNamespace(cuda_stream=stream + index))
    return types.SimpleNamespace(Tensor=Tensor, cuda=cuda, empty=made, zeros=made, float16="float16", float32="float32",
                                 uint8="uint8")


def tensor(*shape, dtype="float16", index=1):
    return Tensor(shape, dtype, types.SimpleNamespace(type="cuda", index=index))


@unittest.skipUnless(os.path.exists(DRIVER), f"there is no {DRIVER}; the tests in C have it built")
class Gpu(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        patch = unittest.mock.patch.dict("os.environ", {"XQ_LIBCUDA": DRIVER, "FAKE_CUDA_CAPABILITIES": "90,80"})
        patch.start()
        cls.addClassCleanup(patch.stop)
        cls.driver = ctypes.CDLL(DRIVER)
        cls.context = xq.Context("cuda:1")
        cls.addClassCleanup(cls.context.close)
        cls.plan = xq.Plan(cls.context, SPEC, max_batch=2, max_tokens=64, max_append=20)

    def launched(self):
        """Returns the latest launch of the stand-in."""
        get = self.driver.fake_cuda_get_state
        get.restype = ctypes.POINTER(State)
        state = get().contents
        return state.launches[(state.launch_count - 1) % 16]

    def arguments(self, make):
        table = (self.context.upload(array) for array in (ints(0, 1), ints(0), ints(4)))
        return dict(q=make(1, HEADS, HEAD_DIM), weights=self.context.alloc(self.plan.info.weights_bytes),
                    table=xq.PageTable(*table, batch=1), pages=self.context.alloc(self.plan.info.page_bytes),
                    workspace=self.plan.workspace())

    def test_the_device_is_the_gpu_of_that_number(self):
        self.assertEqual((self.context.is_sim, self.context.device.ordinal, self.context.device.arch), (False, 1, "sm_80"))

    def test_memory_is_the_gpus(self):
        buffer = self.context.upload(b"0123456789")
        self.assertEqual(buffer[2:5].read(), b"234")

    def test_an_address_that_is_given_out_again_does_not_revive_a_buffer(self):
        freed = self.context.alloc(64)
        freed.free()
        again = self.context.alloc(64)
        self.assertRaisesRegex(xq.ArgumentError, "freed", freed.read)
        freed.free()
        del freed
        again.fill(3)
        self.assertEqual(again.read(), bytes([3] * 64))

    def test_host_arrays_are_refused(self):
        arguments = self.arguments(lambda *shape: numpy.zeros(shape, "f2"))
        with self.assertRaisesRegex(xq.ArgumentError, "q: it is a numpy array, in host memory; valid on a GPU") as caught:
            self.plan.attend(**arguments)
        self.assertEqual(caught.exception.field, "q")
        self.assertRaisesRegex(TypeError, "valid: a torch tensor, a DeviceBuffer, or an address", self.plan.attend,
                               **{**arguments, "q": "q"})

    def test_buffers_and_addresses_are_launched_with(self):
        arguments = self.arguments(lambda *shape: self.context.alloc(512))
        self.plan.attend(**arguments, out=self.context.alloc(512), queries=1, stream=0x5500)
        self.assertEqual(self.launched().stream, 0x5500)
        self.plan.attend(**arguments, out=self.context.alloc(512).address, queries=1)
        self.assertIsNone(self.launched().stream)

    def test_tensors_and_the_current_stream(self):
        with unittest.mock.patch.dict(sys.modules, {"torch": fake_torch(0x4400)}):
            out = self.plan.attend(**self.arguments(tensor))
            self.assertEqual((out.shape, out.dtype, out.device.index), ((1, HEADS, HEAD_DIM), "torch.float16", 1))
            self.assertEqual(self.launched().stream, 0x4401)
            stream = types.SimpleNamespace(cuda_stream=0x6600)
            self.plan.attend(**self.arguments(tensor), stream=stream)
            self.assertEqual(self.launched().stream, 0x6600)
            for other, message in ((tensor(1, HEADS, HEAD_DIM, index=0), "q: it is on cuda:0, and the context on cuda:1"),
                                   (Tensor((1, HEADS, HEAD_DIM), "float16", types.SimpleNamespace(type="cpu", index=None)),
                                    "q: it is on cpu, and the context on cuda:1")):
                self.assertRaisesRegex(xq.ArgumentError, message, self.plan.attend, **{**self.arguments(tensor), "q": other})

    def test_a_cache_without_torch_has_memory_of_the_context(self):
        cache = xq.PagedCache(self.plan, 4, weights=self.plan.pack_weights(**random_weights()))
        self.assertIsInstance(cache.pool(), xq.DeviceBuffer)
        a = cache.add()
        cache.append([a], self.context.alloc(20 * D * 2), counts=[20])
        b = cache.fork(a)
        cache.append([b], self.context.alloc(D * 2))
        self.assertEqual((cache.length(a), cache.length(b), cache.free_pages), (20, 21, 1))
        out = self.context.alloc(2 * HEADS * HEAD_DIM * 2)
        self.assertIs(cache.attend([a, b], self.context.alloc(out.nbytes), out=out), out)
        table = cache.page_table([a, b])
        numpy.testing.assert_array_equal(table.indptr.numpy("i4"), [0, 2, 4])
        numpy.testing.assert_array_equal(table.last_page_len.numpy("i4"), [20 - PAGE, 21 - PAGE])

    def test_a_cache_with_torch_has_tensors(self):
        with unittest.mock.patch.dict(sys.modules, {"torch": fake_torch(0)}):
            cache = xq.PagedCache(self.plan, 4)
            self.assertIsInstance(cache.pool(), Tensor)
            self.assertEqual((cache.pool().shape, cache.pool().device.index), ((4 * self.plan.info.page_bytes,), 1))


if __name__ == "__main__":
    unittest.main()

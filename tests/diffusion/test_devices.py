"""Devices: which there are, what is said of others, and which errors mean that memory is full."""

import pytest
import torch

from napari_dispr import InputError
from napari_dispr.diffusion import devices


def test_cpu_is_always_there():
    found = devices.available()
    assert "CPU" in found["cpu"]
    assert devices.choose("cpu") == torch.device("cpu")


def test_auto_takes_a_gpu_where_there_is_one():
    found = list(devices.available())
    assert str(devices.choose("auto")) == (found[1] if len(found) > 1 else "cpu")
    assert devices.choose() == devices.choose("auto")


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "", "CPU "])
def test_device_that_is_not_there(name):
    with pytest.raises(InputError, match="choose one of auto, cpu") as caught:
        devices.choose(name)
    assert repr(name) in str(caught.value)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_cuda_is_the_first_one():
    assert devices.choose("cuda") == torch.device("cuda:0")


def test_fast_type_is_one_that_the_device_computes():
    fast = devices.fast_dtype(torch.device("cpu"))
    assert fast in (torch.float32, torch.bfloat16)
    convolution = torch.nn.Conv3d(2, 2, 3).to(fast)
    assert convolution(torch.ones(1, 2, 4, 4, 4, dtype=fast)).dtype == fast


def test_batch_is_one_for_networks_that_do_not_fold():
    cpu = torch.device("cpu")
    assert devices.batch_size(cpu, 1) == 1
    assert devices.batch_size(cpu, 64) > 1
    assert devices.batch_size(torch.device("cuda"), 64) > devices.batch_size(cpu, 64)


def test_real_shortage_of_memory_is_known():
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert devices.is_out_of_memory(caught.value)
    assert devices.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert devices.is_out_of_memory(MemoryError())


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("memory"), KeyboardInterrupt()])
def test_other_errors_are_not_taken_for_it(error):
    assert not devices.is_out_of_memory(error)


def test_kernels_are_stored_channels_last():
    convolution = devices.channels_last(torch.nn.Conv3d(4, 4, 3))
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last_3d)

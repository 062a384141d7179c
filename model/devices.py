"""Where and in which number type a network runs, and what its bits depend on there."""

import os
import platform
from typing import Any, Literal

import torch

from model.errors import SegmentError

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "bf16", "fp16", "fp32"]

DTYPES: dict[str, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
}
# A resnet18 U-Net in bf16 takes about 500 bytes per input pixel at its peak; larger encoders two to
# three times that.
_GPU_BYTES_PER_PIXEL = 1500
_MAX_GPU_BATCH = 16
_MIN_STABLE_FP32_PX = 1280
MIN_STABLE_CROP_PX = 512
"""Side of a part of a window from which fp32 has the same bits on a CPU whatever the threads; parts
take no trimmed decoder, which needs more."""


def pick_device(device: Device) -> torch.device:
    """The device to use; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        SegmentError: if the device is not there.
    """
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if device == "auto":
        device = "cuda" if available["cuda"] else "mps" if available["mps"] else "cpu"
    if not available[device]:
        there = ", ".join(name for name, is_there in available.items() if is_there)
        raise SegmentError(f"device = {device!r} is not available here; available: {there}")
    return torch.device(device)


def cores_of_worker(device: torch.device) -> int:
    """Cores of the CPU that a process has, if there is one such process for each GPU.

    Args:
        device: where its network runs; on a CPU nobody knows what runs beside it, and it is 1.
    """
    if device.type == "cpu":
        return 1
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    num_gpus = torch.cuda.device_count() if device.type == "cuda" else 1
    return max(cores // max(num_gpus, 1), 1)


def pick_precision(precision: Precision, device: torch.device) -> str:
    """The number type to use: `bf16`, `fp16` or `fp32`.

    `auto` takes bf16 on CPUs with instructions for it (elsewhere it is emulated and slower than
    fp32) and on GPUs from Ampere on, fp16 on older GPUs, else fp32.

    Raises:
        SegmentError: for fp16 on a CPU, which is neither fast nor as exact as bf16.
    """
    if precision == "fp16" and device.type == "cpu":
        raise SegmentError("precision = 'fp16' is for GPUs; use bf16, fp32 or auto on a CPU")
    if precision != "auto":
        return precision
    if device.type == "cpu":
        return "bf16" if has_native_bf16() else "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "fp32"


def has_native_bf16() -> bool:
    """Whether the CPU multiplies bf16 in hardware and torch uses it (AVX-512 BF16 or AMX)."""
    # oneDNN emulates bf16 on any AVX-512 CPU, so its own answer (_is_mkldnn_bf16_supported) is no
    # help.
    is_capable = _cpu_has("_is_avx512_bf16_supported") or _cpu_has("_is_amx_tile_supported")
    return is_capable and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _cpu_has(question: str) -> bool:
    """An answer of `torch.cpu`; False where this torch does not know the question."""
    ask = getattr(torch.cpu, question, None)
    return ask is not None and bool(ask())


def stable_num_threads(num_threads: int) -> int:
    """The largest power of two that is not above a number of threads."""
    return 1 << (num_threads.bit_length() - 1)


def is_thread_free(device: torch.device, precision: str, input_px: int, num_threads: int) -> bool:
    """Whether the bits of a result are known to be those of any other power of two of threads.

    oneDNN cuts a convolution by the number of threads and by its shape, and sometimes adds up in
    another order then. Measured with a resnet18 U-Net on AVX-512: bf16 gave equal bits for 1, 2, 4
    and 8 threads (single layers: up to 64) from 64 to 2304 px, but 3 threads differ in one layer at
    512 and 640 px. In fp32 torch computes a layer without oneDNN where a batch of one has at most
    20,480 values (`use_mkldnn` in aten/src/ATen/native/Convolution.cpp), which happens below 512 px
    and then depends on the batch size, too, and now and then on the threads. Fused layers
    (`model.window_network`) of an EfficientNet-Lite U-Net: equal bits for 1, 2, 4 and 8 threads in
    bf16 (512 and 1280 px) and for up to 16 in fp32 at 1280 px; in fp32 one layer of the trimmed
    decoder differs at 512 px and 768 px with 8 threads, and at 640 px with 16.
    """
    if device.type != "cpu":
        return True
    is_large = precision == "bf16" or input_px >= _MIN_STABLE_FP32_PX
    return is_large and num_threads == stable_num_threads(num_threads)


def default_batch_size(device: torch.device, input_px: int) -> int:
    """Windows per batch where none is configured.

    On a CPU one: larger batches are no faster and need more memory. On a GPU what fits into half of
    its memory (the whole, not what is free now, so that equal machines use equal batches).
    """
    if device.type != "cuda":
        return 1
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    fitting = total_bytes // 2 // (input_px * input_px * _GPU_BYTES_PER_PIXEL)
    return max(1, min(_MAX_GPU_BATCH, 1 << (int(fitting).bit_length() - 1 if fitting else 0)))


def device_fingerprint(device: torch.device) -> dict[str, Any]:
    """What the bits of a result depend on at this device: kind, instruction set, libraries."""
    fingerprint: dict[str, Any] = {"device": device.type, "torch": torch.__version__}
    if device.type == "cpu":
        fingerprint["capability"] = torch.backends.cpu.get_cpu_capability()
        fingerprint["machine"] = platform.machine()
        fingerprint["native_bf16"] = has_native_bf16()
        fingerprint["amx"] = _cpu_has("_is_amx_tile_supported")
    elif device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        fingerprint["capability"] = f"sm_{properties.major}{properties.minor}"
        fingerprint["device_name"] = properties.name
        fingerprint["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return fingerprint


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out: CUDA, MPS, oneDNN or the CPU's allocator."""
    text = str(error).lower()
    return (
        isinstance(error, torch.OutOfMemoryError)
        or "out of memory" in text
        or "can't allocate memory" in text
    )

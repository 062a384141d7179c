"""Networks without torch's compiler: it stays away until asked for, and then works as ever."""

import subprocess
import sys
import textwrap

import pytest


def _run_fresh(script: str) -> None:
    """Run a script in a process that has imported nothing yet."""
    code = textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_segmenter_works_without_the_compiler() -> None:
    _run_fresh("""
        import sys

        import numpy as np

        from model.segment import Segmenter
        from model.shipped import shipped_bundle_path

        segmenter = Segmenter.load(shipped_bundle_path(), window_px=64, margin_px=64)
        pixels = np.zeros((3, 192, 192), np.uint8)
        assert segmenter.segment(pixels, np.ones((192, 192), bool)).shape == (64, 64)
        assert not {"torch._dynamo", "torch._inductor", "sympy"} & sys.modules.keys()
    """)


def test_a_network_can_be_compiled_and_exported_afterwards() -> None:
    _run_fresh("""
        import sys

        import torch

        from model.unet import NetworkConfig, build_network

        config = NetworkConfig(encoder="resnet18", decoder_channels=(32, 16, 16, 8, 8))
        network = build_network(config).eval()
        assert "torch._dynamo" not in sys.modules
        images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            wanted = network(images)
            compiled = torch.compile(network, backend="eager")
            torch.testing.assert_close(compiled(images), wanted)
            exported = torch.export.export(network, (images,))
            torch.testing.assert_close(exported.module()(images), wanted)
        assert torch._dynamo.__spec__.origin == torch._dynamo.__file__
    """)


@pytest.mark.parametrize(
    "use",
    [
        "compiler.is_compiling()",
        "compiler.config.verbose",
        "utils.istype(1, int)",
        "utils.is_compile_supported('cpu')",
        "compiler.disable(print, recursive=False)",
    ],
)
def test_whoever_asks_for_more_gets_the_real_compiler(use: str) -> None:
    _run_fresh(f"""
        import sys

        from model.deferred_compiler import compiler_deferred

        with compiler_deferred():
            import torch._dynamo as compiler
            import torch._dynamo.utils as utils

            {use}
        import torch._dynamo

        assert torch._dynamo is not compiler
        assert callable(torch._dynamo.optimize)
    """)


def test_functions_marked_in_between_are_not_compiled() -> None:
    _run_fresh("""
        import torch

        from model.deferred_compiler import compiler_deferred

        def double(x):
            return 2 * x

        with compiler_deferred():
            marked = torch.compiler.disable(double)
            also_marked = torch.compiler.disable()(lambda x: 3 * x)
        import torch._dynamo
        from torch._dynamo.testing import CompileCounter

        def count_operations(function):
            counter = CompileCounter()
            torch._dynamo.reset()
            compiled = torch.compile(lambda x: function(x) + 1, backend=counter)
            x = torch.ones(3)
            assert torch.equal(compiled(x), function(x) + 1)
            return counter.op_count

        assert count_operations(lambda x: 2 * x) == 2
        assert count_operations(marked) == 1
        assert count_operations(also_marked) == 1
    """)


def test_a_loaded_compiler_stays() -> None:
    _run_fresh("""
        import sys

        import torch._dynamo

        from model.deferred_compiler import compiler_deferred

        loaded = torch._dynamo
        with compiler_deferred():
            assert sys.modules["torch._dynamo"] is loaded
        assert sys.modules["torch._dynamo"] is loaded
    """)


def test_failed_imports_leave_no_stand_in() -> None:
    _run_fresh("""
        import sys

        from model.deferred_compiler import compiler_deferred

        try:
            with compiler_deferred():
                raise ImportError("a library that is not there")
        except ImportError:
            pass
        assert not {"torch._dynamo", "torch._dynamo.utils"} & sys.modules.keys()
    """)

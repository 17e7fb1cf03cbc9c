"""Compile Triton kernels with no GPU and read from ptxas what they need: registers, spills and shared memory.

Run as a program in a process of its own, where TRITON_INTERPRET is unset: the interpreter's kernels cannot be compiled.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from importlib import import_module

CAPABILITIES = (80, 90)


@dataclass(frozen=True)
class Build:
    """One kernel at one set of types and block sizes.

    `signature` maps each argument that is no constexpr to its type ("*fp32", "i32", …), `constexprs` maps the others to
    their values.
    """

    module: str
    kernel: str
    signature: dict[str, str]
    constexprs: dict[str, object]
    num_warps: int = 4
    num_stages: int = 3
    label: str = field(default="")


def resources(builds: list[Build]) -> list[dict]:
    """For each build and capability: label, capability, registers, spill_stores, spill_loads and shared (bytes)."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    # ptxas speaks only when it runs, so nothing may come from Triton's cache.
    environment |= {"TRITON_ALWAYS_COMPILE": "1", "TRITON_DUMP_PTXAS_LOG": "1"}
    request = json.dumps([asdict(build) for build in builds])
    done = subprocess.run([sys.executable, __file__], input=request, text=True, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _measure(build: Build, capability: int) -> dict:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(import_module(build.module), build.kernel)
    signature = {name: "constexpr" if name in build.constexprs else build.signature[name] for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constexprs=build.constexprs)
    options = {"num_warps": build.num_warps, "num_stages": build.num_stages}
    with contextlib.redirect_stdout(io.StringIO()) as log:
        compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    log = log.getvalue()
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    return {
        "label": build.label or build.kernel,
        "capability": capability,
        "registers": int(re.search(r"Used (\d+) registers", log)[1]),
        "spill_stores": int(spills[1]),
        "spill_loads": int(spills[2]),
        "shared": compiled.metadata.shared,
    }


if __name__ == "__main__":
    wanted = [Build(**item) for item in json.load(sys.stdin)]
    json.dump([_measure(build, capability) for build in wanted for capability in CAPABILITIES], sys.stdout)

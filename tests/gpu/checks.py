"""The check on a GPU machine, one line of PASS or FAIL per check; exits with 1 if any failed, with 64 if it can't start.

    ./run          on a machine with CUDA and torch 2.11
    ./run --cpu    a rehearsal without a GPU: the same program, the same files, no NCCL
"""

import argparse
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORK = HERE / "work"
PROGRAM = HERE / "bin" / "simsiam"
SHIM = HERE / "lib" / "libtch_ext_cuda.so"
TORCH = "2.11.0"
# By tests/parity/README.md, for fp32.
LOSS_TOLERANCE, NORM_TOLERANCE = 1e-5, 1e-3


class Failed(Exception):
    """The message of a failed check."""


def need(condition, words):
    if not condition:
        raise Failed(words)


def environment():
    """The environment in which the program finds the libtorch inside this Python's torch."""
    import torch

    lib = Path(torch.__file__).resolve().parent / "lib"
    # PyTorch's own wheels find NVIDIA's libraries on their own; others may not.
    nvidia = sorted((lib.parent.parent / "nvidia").glob("*/lib"))
    old = os.environ.get("LD_LIBRARY_PATH")
    paths = [str(lib), *map(str, nvidia), *([old] if old else [])]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(paths), "SIMSIAM_LOG": "simsiam=info,warn"}


def simsiam(*arguments, **extra):
    """Runs the program in the bundle's folder and returns its output, including standard error."""
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)], cwd=HERE, env={**environment(), **extra}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=900,
    )
    need(done.returncode == 0, f"simsiam {arguments[0]} ended with {done.returncode}:\n{tail(done.stdout)}")
    return done.stdout


def tail(text, lines=15):
    return "\n".join(f"       {line}" for line in text.strip().splitlines()[-lines:])


def last_json(text):
    for line in reversed(text.splitlines()):
        if line.startswith("{"):
            return json.loads(line)
    raise Failed(f"no JSON in:\n{tail(text)}")


class Checks:
    """All checks, in order. Results of training are kept for later checks."""

    def __init__(self, cpu):
        self.cpu = cpu
        self.result = None

    def recipe(self, output):
        """A copy of train.yaml that writes to work/<output>; its path."""
        text = (HERE / "train.yaml").read_text().replace("OUTPUT", output)
        if self.cpu:
            text = text.replace("epochs: 40", "epochs: 4").replace("baseWidth: 32", "baseWidth: 8")
        path = WORK / f"{output}.yaml"
        path.write_text(text)
        return path

    def run_arguments(self, output):
        return ["run", "-f", self.recipe(output), "--nproc", "1", "--metrics-addr", "127.0.0.1:0"]

    def read_result(self, output):
        return json.loads((WORK / output / "result.json").read_text())

    def torch_and_gpu(self):
        """torch 2.11 with CUDA is here"""
        import torch

        need(torch.__version__.split("+")[0] == TORCH, f"torch is {torch.__version__}, expected {TORCH}")
        if self.cpu:
            return f"torch {torch.__version__}, CPU rehearsal"
        need(torch.version.cuda, "this torch was built without CUDA")
        need(torch.cuda.is_available(), "torch finds no GPU")
        need(SHIM.is_file(), f"{SHIM} is missing: was the bundle packed with --cpu?")
        return f"torch {torch.__version__}, {torch.cuda.get_device_name(0)}, driver's CUDA for {torch.version.cuda}"

    def trains(self):
        """the program trains in bf16, on the GPU, with a process group of one rank"""
        import torch

        log = simsiam(*self.run_arguments("whole"), NCCL_DEBUG="INFO")
        (WORK / "whole.log").write_text(log)
        self.result = self.read_result("whole")
        loss, std = self.result["loss"], self.result["outputStd"]
        need(math.isfinite(loss) and -1 <= loss < -0.1, f"the last loss is {loss}, expected between -1 and -0.1")
        need(math.isfinite(std) and std > 0.2 / math.sqrt(256), f"std is {std}: collapsed")
        device = self.device_of("whole")
        if self.cpu:
            need(device.startswith("cpu"), f"it ran on {device}")
        else:
            name = torch.cuda.get_device_name(0)
            need(device == name, f"it ran on {device}, expected {name}")
            need("NCCL INFO" in log, f"NCCL is not mentioned in the log, see {WORK / 'whole.log'}")
        return f"{device}, loss {loss:.4f}, std {std:.4f}, kNN {self.result['knn']['top1']}"

    def device_of(self, output):
        states = sorted((WORK / output / "checkpoints").glob("*/state.json"))
        need(states, "it left no checkpoint")
        return json.loads(states[-1].read_text())["environment"]["device"]

    def resumes(self):
        """killed after a checkpoint, it resumes from there"""
        arguments = self.run_arguments("killed")
        with open(WORK / "killed.log", "w") as log:
            child = subprocess.Popen(
                [PROGRAM, *map(str, arguments)], cwd=HERE, env=environment(), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )
            try:
                manifests = WORK / "killed" / "checkpoints"
                limit = time.monotonic() + 600
                while child.poll() is None and not list(manifests.glob("*/manifest.json")):
                    need(time.monotonic() < limit, "no checkpoint within ten minutes")
                    time.sleep(0.01)
                need(child.poll() is None, f"it ended before it could be killed, see {log.name}")
            finally:
                # The agent's rank shares its session, so no process is left behind.
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        need(not (WORK / "killed" / "result.json").exists(), "it was done before it was killed")
        log = simsiam(*arguments)
        (WORK / "resumed.log").write_text(log)
        need("resum" in log, f"the second start does not say that it resumes:\n{tail(log)}")
        steps, expected = self.read_result("killed")["steps"], self.result["steps"]
        need(steps == expected, f"it ended after {steps} steps, expected {expected}")
        return next(line.strip() for line in log.splitlines() if "resum" in line)

    def same_bits(self):
        """the resumed run ends with bit-identical weights"""
        killed, whole = self.read_result("killed")["weightsSha256"], self.result["weightsSha256"]
        need(killed == whole, f"SHA-256 {killed[:12]} against {whole[:12]} of the run that was not killed")
        return f"SHA-256 {whole[:12]}"

    def parity(self):
        """loss, gradients and five steps agree with PyTorch's, in fp32"""
        import tensors

        out = WORK / "parity.safetensors"
        inputs = HERE / "parity" / "basic.inputs.safetensors"
        # TF32 would round each product to ten bits; libraries read this variable themselves.
        simsiam("fixture-step", "--inputs", inputs, "--out", out, NVIDIA_TF32_OVERRIDE="0")
        found, expected = tensors.read(out), tensors.read(HERE / "parity" / "basic.f32.safetensors")
        need(found.keys() == expected.keys(), f"other tensors: {sorted(found.keys() ^ expected.keys())[:5]}")
        loss = (found.pop("losses") - expected.pop("losses")).abs().max().item()
        need(loss <= LOSS_TOLERANCE, f"losses are off by {loss:.1e}, at most {LOSS_TOLERANCE:.0e}")
        worst = {"grad": 0.0, "after": 0.0}
        for name, value in found.items():
            if value.dtype.is_floating_point:
                away = tensors.distance(value, expected[name])
                need(away <= NORM_TOLERANCE, f"{name} is off by {away:.1e} of its norm, at most {NORM_TOLERANCE:.0e}")
                kind = name.split(".")[0]
                worst[kind] = max(worst.get(kind, 0.0), away)
            else:
                need(value.equal(expected[name]), f"{name} differs")
        return f"losses within {loss:.1e}, gradients {worst['grad']:.1e}, weights after {worst['after']:.1e}"

    def speed(self):
        """images per second of a ResNet-50's step at 224 px, bf16"""
        batch = 4 if self.cpu else 64 if gpu_memory() < 40e9 else 256
        arguments = ["--arch", "resnet50", "--stem", "imagenet", "--crop", "224", "--precision", "bf16", "--batch", batch]
        arguments += ["--steps", 2 if self.cpu else 20, "--warmup", 1 if self.cpu else 5, "--json"]
        ours = last_json(simsiam("bench-step", *arguments))["imagesPerSecond"]
        trained = self.result["imagesPerSecond"]
        return f"batch {batch}: {ours:.1f} images/s; {self.pytorch_speed(arguments)}; the training above {trained:.0f}"

    def pytorch_speed(self, arguments):
        """Eager PyTorch's result, as text for comparison."""
        script = [sys.executable, str(HERE / "parity" / "bench_train.py"), *map(str, arguments), "--channels-last"]
        done = subprocess.run(
            [*script, "--device", "cpu" if self.cpu else "cuda"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=900,
        )
        if done.returncode != 0:
            return f"PyTorch not measured ({(done.stderr.strip().splitlines() or ['no reason given'])[-1]})"
        return f"eager PyTorch, channels last {last_json(done.stdout)['imagesPerSecond']:.1f}"


def gpu_memory():
    import torch

    return torch.cuda.get_device_properties(0).total_memory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="store_true", help="rehearse without a GPU")
    checks = Checks(parser.parse_args().cpu)
    if not PROGRAM.is_file():
        print(f"{PROGRAM} is missing: this runs in the folder that `cargo xtask gpu-bundle` packs", file=sys.stderr)
        return 64
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    print((HERE / "VERSION").read_text().strip())
    failed = total = 0
    order = [checks.torch_and_gpu, checks.parity, checks.trains, checks.resumes, checks.same_bits, checks.speed]
    for check in order:
        begun, total = time.monotonic(), total + 1
        try:
            word, detail = "PASS", check()
        except Exception as problem:  # a check that breaks has failed; the others still tell something
            failed += 1
            word, detail = "FAIL", problem if isinstance(problem, Failed) else f"{type(problem).__name__}: {problem}"
        print(f"{word} {check.__doc__} ({time.monotonic() - begun:.0f} s): {detail}", flush=True)
        if check is checks.torch_and_gpu and word == "FAIL":
            break
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

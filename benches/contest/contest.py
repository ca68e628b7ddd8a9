"""Fornax against other engines, on ONNX files, batch as in the input, f32.

    contest.py MODEL.onnx... [--threads 1,2] [--engines fornax,onnxruntime,openvino] [--rounds 8]

The rules stand in ../README.md: one long-lived process per engine, engines alternate in rounds with rotating order, ratios are taken
inside a round, and rounds that other processes disturbed are left out. Needs numpy and the engines' Python packages.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import numpy

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
# Suffix of the file that each engine reads, and the Python package that it comes in.
ENGINES = {
    "fornax": (".onnx", None),
    "fornax_aot": (".onnx", None),
    "onnxruntime": (".onnx", "onnxruntime"),
    "openvino": (".onnx", "openvino"),
    "litert": (".tflite", "ai-edge-litert"),
    "ncnn": (".ncnn.param", "ncnn"),
    "mnn": (".mnn", "MNN"),
}
# Fornax itself: compiled in memory, and compiled to a library first.
OURS = ("fornax", "fornax_aot")
# Outputs that differ by more than this share of the largest are of another network.
TOLERANCE = 1e-3
CPUS = os.cpu_count()
HERTZ = os.sysconf("SC_CLK_TCK")


def machine_seconds():
    """Seconds of all processors so far: busy, and taken by the hypervisor."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = (int(word) for word in file.readline().split()[1:9])
    return (user + nice + system + irq + softirq) / HERTZ, steal / HERTZ


def process_seconds(pid):
    """Processor seconds of a process so far."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / HERTZ


class Worker:
    """A process that has loaded a model and answers requests."""

    def __init__(self, engine, command, output):
        self.engine, self.output = engine, output
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        words = self.process.stdout.readline().split()
        if len(words) != 5 or words[0] != "ready":
            self.process.kill()
            raise RuntimeError(f"{engine}: no `ready` line, exit code {self.process.wait()}")
        load, first, peak, base = map(float, words[1:])
        self.start = {"load_s": load, "first_s": first, "peak_rss_mb": peak / 1024, "base_rss_mb": base / 1024}

    def run(self, seconds, least):
        """Median wall and process milliseconds of an inference, and the share of the machine that others used meanwhile."""
        begun, own, (busy, steal) = time.perf_counter(), process_seconds(self.process.pid), machine_seconds()
        self.process.stdin.write(f"run {seconds:g} {least}\n")
        self.process.stdin.flush()
        words = self.process.stdout.readline().split()
        if not words or words[0] != "lat":
            raise RuntimeError(f"{self.engine}: answered {' '.join(words) or 'nothing'}")
        there = (time.perf_counter() - begun) * CPUS
        later, stolen = machine_seconds()
        others = (later - busy) - (process_seconds(self.process.pid) - own) + (stolen - steal)
        wall, cpu = zip(*(map(float, word.split(":")) for word in words[1:]))
        return {
            "wall_ms": statistics.median(wall),
            "cpu_ms": statistics.median(cpu),
            "runs": len(wall),
            "foreign": max(0.0, others / there),
        }

    def stop(self):
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()


def fornax(options, *arguments):
    """The JSON that a verb prints."""
    answer = subprocess.run([options.fornax, *arguments, "--json"], check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)


def peak_of(options, model):
    """The FMA peak of one thread now, GFLOP/s."""
    figures = fornax(options, "bench", model, "--threads", "1", "--seconds", "0", "--min-runs", "1")
    return max(peak["gflops"] for peak in figures["peaks"])


def input_of(options, model, folder):
    """MODEL.x.npy beside the model, or seeded noise of its input's shape with batch 1."""
    beside = model.removesuffix(".onnx") + ".x.npy"
    if os.path.exists(beside):
        return beside
    ports = fornax(options, "inspect", model)["inputs"]
    shape = re.fullmatch(r"f32\[(.*)\]", ports[0]["type"]) if len(ports) == 1 else None
    if not shape:
        sys.exit(f"{model}: expected one f32 input, found {ports}; put a tensor in {beside}")
    extents = [int(n) if n.isdigit() else 1 for n in shape[1].split(",")]
    path = os.path.join(folder, "x.npy")
    numpy.save(path, numpy.random.default_rng(1).standard_normal(extents, dtype=numpy.float32))
    return path


def start(options, model, threads, source, folder):
    """A worker for every engine that has a file for the model, and why the others have none."""
    workers, absent = [], {}
    for engine in options.engines:
        suffix, _ = ENGINES[engine]
        stem = os.path.basename(model).removesuffix(".onnx")
        path = model if suffix == ".onnx" else os.path.join(options.converted, stem + suffix)
        output = os.path.join(folder, f"{engine}.npy")
        if not os.path.exists(path):
            absent[engine] = f"no {stem}{suffix}"
            continue
        if engine == "fornax_aot":
            library = os.path.join(folder, f"{stem}.so")
            subprocess.run([options.fornax, "compile", path, "-o", library], check=True, capture_output=True)
            path = library
        if engine in OURS:
            # --drive is the older name of --stdio: older binaries can be compared, too.
            command = [options.fornax, "bench", path, "--threads", str(threads), "--input", source, "--save", output, "--drive"]
        else:
            command = [sys.executable, os.path.join(HERE, "worker.py"), engine, path, source, output, str(threads)]
        try:
            workers.append(Worker(engine, command, output))
        except RuntimeError as error:
            absent[engine] = str(error)
    return workers, absent


def differences(workers):
    """How far each output is from the first peer's, as a share of the largest value."""
    outputs = {worker.engine: numpy.load(worker.output).astype(numpy.float64).reshape(-1) for worker in workers}
    first = next((engine for engine in outputs if engine not in OURS), None)
    if first is None:
        return {}
    largest = numpy.abs(outputs[first]).max()
    return {engine: float(numpy.abs(y - outputs[first]).max() / largest) for engine, y in outputs.items() if engine != first}


def compete(options, model, threads):
    """All rounds of one model on a number of threads."""
    with tempfile.TemporaryDirectory() as folder:
        before = peak_of(options, model)
        workers, absent = start(options, model, threads, input_of(options, model, folder), folder)
        try:
            apart = differences(workers)
            for worker in workers:
                worker.run(0.3, 2)
            rounds = []
            for number in range(options.rounds):
                turn = number % max(1, len(workers))
                order = workers[turn:] + workers[:turn]
                rounds.append({worker.engine: worker.run(options.seconds, options.min_runs) for worker in order})
        finally:
            for worker in workers:
                worker.stop()
    result = {
        "model": os.path.basename(model).removesuffix(".onnx"),
        "threads": threads,
        "peak_gflops": max(before, peak_of(options, model)) * threads,
        "starts": {worker.engine: worker.start for worker in workers},
        "difference": apart,
        "absent": absent,
        "rounds": rounds,
    }
    return result | judge(result, options)


def judge(result, options):
    """Times and ratios over the quiet rounds: process time on one thread, wall time on more."""
    what = "cpu_ms" if result["threads"] == 1 else "wall_ms"
    quiet = [r for r in result["rounds"] if all(e["foreign"] < options.quiet / 100 for e in r.values())]
    median = lambda values: statistics.median(values) if values else None  # noqa: E731
    verdict = {
        "judged_by": what,
        "quiet_rounds": len(quiet),
        "ms": {engine: median([r[engine][what] for r in quiet]) for engine in result["rounds"][0]},
        "same_outputs": all(difference <= TOLERANCE for difference in result["difference"].values()),
    }
    ratios = []
    for r in quiet:
        peers = [figures[what] for engine, figures in r.items() if engine not in OURS]
        if peers and "fornax" in r:
            ratios.append(min(peers) / r["fornax"][what])
    verdict["ratios"], verdict["ratio"] = ratios, median(ratios)
    both = [r["fornax_aot"][what] / r["fornax"][what] for r in quiet if all(engine in r for engine in OURS)]
    # Time of the library over that of the code in memory.
    verdict["library"] = median(both)
    return verdict


def version(engine):
    """The version of an engine, None if it is not installed."""
    package = ENGINES[engine][1]
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def context(options):
    """What the results depend on."""
    git = lambda *words: subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True).stdout.strip()  # noqa: E731
    targets = fornax(options, "targets")
    return {
        "version": 1,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else ""),
        "cpu": targets["cpu"],
        "cpus": CPUS,
        "target": targets["host"],
        "engines": {engine: version(engine) for engine in options.engines if engine not in OURS},
        "settings": {"rounds": options.rounds, "seconds": options.seconds, "min_runs": options.min_runs, "quiet": options.quiet},
    }


COLUMNS = ["date", "commit", "processor", "network", "threads", "Fornax, ms", "peers, ms", "best peer / Fornax", "% of peak", "quiet rounds"]


def row(about, result):
    """A line of the table."""
    show = lambda value, digits=2: "-" if value is None else f"{value:.{digits}f}"  # noqa: E731
    peers = ", ".join(f"{engine} {show(ms)}" for engine, ms in result["ms"].items() if engine not in OURS)
    ours, ratio = result["ms"].get("fornax"), show(result["ratio"])
    if result["library"]:
        ratio += f" (library {result['library']:.3f} x)"
    if not result["same_outputs"]:
        ratio += " (outputs differ)"
    share = show(result.get("peak_percent"), 0)
    quiet = f"{result['quiet_rounds']} of {len(result['rounds'])}"
    cells = [about["date"][:10], about["commit"], about["cpu"], result["model"], result["threads"], show(ours), peers, ratio, share, quiet]
    return "| " + " | ".join(map(str, cells)) + " |"


def save(options, about, results):
    """A JSON file of its own, rewritten after each result."""
    os.makedirs(options.record, exist_ok=True)
    path = os.path.join(options.record, about["date"].replace(":", "") + ".json")
    with open(path + ".new", "w") as file:
        json.dump(about | {"results": results}, file, indent=1)
    os.replace(path + ".new", path)


def tabulate(options, line):
    """One more line of the table that all contests share."""
    path = os.path.join(options.record, "README.md")
    new = not os.path.exists(path)
    with open(path, "a") as file:
        if new:
            file.write("# Contests\n\n| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS) + "\n")
        file.write(line + "\n")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words = lambda text: text.split(",")  # noqa: E731
    parser.add_argument("models", nargs="+", metavar="MODEL.onnx", help="MODEL.x.npy beside it is its input, else noise")
    parser.add_argument("--threads", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2])
    parser.add_argument("--engines", type=words, default=["fornax", "onnxruntime", "openvino"], help=",".join(ENGINES))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.5, help="per engine and round")
    parser.add_argument("--min-runs", type=int, default=4, help="per engine and round")
    parser.add_argument("--quiet", type=float, default=10, help="a round counts if others used less than this %% of the machine")
    parser.add_argument("--converted", default=".", help="folder of MODEL.tflite, MODEL.ncnn.param and .bin, MODEL.mnn")
    parser.add_argument("--fornax", default=os.path.join(ROOT, "target/release/fornax"))
    parser.add_argument("--record", default=os.path.join(ROOT, "benches/record"), help="folder for the JSON file and the table")
    options = parser.parse_args()
    for engine in options.engines:
        if engine not in ENGINES:
            parser.error(f"--engines: expected some of {', '.join(ENGINES)}, found {engine}")
    if options.rounds < 1 or options.min_runs < 1 or min(options.threads) < 1:
        parser.error("--rounds, --min-runs and --threads: expected at least 1")
    return options


def main():
    options = arguments()
    about, results = context(options), []
    for model in options.models:
        macs = fornax(options, "inspect", model, "--stats")["macs"]
        for threads in options.threads:
            result = compete(options, model, threads)
            ours = result["ms"].get("fornax")
            # On one thread the process time is that of the inference; on more, the wall time.
            result["peak_percent"] = 100 * 2e-6 * macs / ours / result["peak_gflops"] if ours else None
            results.append(result)
            save(options, about, results)
            line = row(about, result)
            tabulate(options, line)
            print(line, flush=True)
            for engine, reason in result["absent"].items():
                print(f"  {engine}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    main()

"""Coverage-guided fuzzing of the readers of files and recipes.

    pip install atheris
    python benchmarks/fuzz.py --minutes 10

Atheris (https://github.com/google/atheris) is not a dependency of llmkit. The targets are in tests/fuzz_targets.py. One
input per kind of failure is kept under --out; `--target file --replay INPUT` shows its traceback. An input that takes
20 seconds or 300 MB is a failure too. Each process fuzzes for at most two minutes, because the memory of the
instrumentation grows: by 2 GB in 20,000 executions, where the same inputs without it take 160 MB.
"""

import argparse
import hashlib
import importlib.util
import logging
import re
import resource
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGETS = ("file", "rows", "recipe", "overrides")
SECONDS_PER_PROCESS = 120
MAX_MEGABYTES = 300
INSTRUMENTED = ["fuzz_targets", "llmkit", "yaml", "csv", "json", "zipfile", "gzip", "selectolax", "email", "pypdf"]


def main() -> None:
    """Run the targets one after another, for an equal share of the time, in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--target", choices=TARGETS, help="default: all")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="where inputs and failures are kept")
    parser.add_argument("--seconds", type=int, help=argparse.SUPPRESS)  # this process fuzzes one target
    parser.add_argument("--replay", type=Path, help="run one kept input and show its traceback")
    arguments = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    if arguments.replay:
        importlib.import_module("fuzz_targets").TARGETS[arguments.target](arguments.replay.read_bytes())
        return
    if importlib.util.find_spec("atheris") is None:
        sys.exit("error: atheris is not installed\nwhere: benchmarks/fuzz.py\nhint:  pip install atheris")
    if arguments.seconds:
        fuzz(arguments.target, arguments.out / arguments.target, arguments.seconds)
    names = [arguments.target] if arguments.target else TARGETS
    total = 0
    for name in names:
        seconds, n, codes = round(60 * arguments.minutes / len(names)), 0, []
        for start in range(0, seconds, SECONDS_PER_PROCESS):
            limit = min(SECONDS_PER_PROCESS, seconds - start)
            words = ["--target", name, "--out", str(arguments.out), "--seconds", str(limit)]
            done = subprocess.run([sys.executable, __file__, *words], stderr=subprocess.PIPE, text=True, check=False)
            found = re.search(r"number_of_executed_units: (\d+)", done.stderr)
            n += int(found[1]) if found else 0
            codes.append(done.returncode)
            if not found:
                print(done.stderr[-2000:])
        total += n
        print(f"{name:<10} {n:>10,} executions, exit codes {codes}", flush=True)
    failures = sorted(arguments.out.glob("*/failures/*.txt"))
    print(f"{total:,} executions, {len(failures)} kinds of failure")
    for path in failures:
        print(f"  {path}: {path.read_text().splitlines()[-1]}")
    sys.exit(bool(failures))


def fuzz(name: str, folder: Path, seconds: int) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        import fuzz_targets
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    failures, corpus = folder / "failures", folder / "corpus"
    for path in (failures, corpus):
        path.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(fuzz_targets.make_seeds()[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=4096", "-print_final_stats=1"]
    words += [f"-artifact_prefix={failures}/", "-len_control=0", str(corpus)]
    atheris.Setup([sys.argv[0], *words], _keep_failures(fuzz_targets.TARGETS[name], failures))
    atheris.Fuzz()


def _keep_failures(target: Callable[[bytes], None], folder: Path) -> Callable[[bytes], None]:
    """The target, which continues after a failure and keeps the first input of each kind."""

    def run(data: bytes) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            target(data)
            n_megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
            if n_megabytes > MAX_MEGABYTES:
                raise MemoryError(f"{n_megabytes} MB for one input")
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            kind = f"{type(error).__name__}-{frames[-1].name}-{frames[-1].lineno}"
            path = folder / f"{re.sub(r'[^-.0-9A-Za-z]', '', kind)}-{hashlib.sha256(kind.encode()).hexdigest()[:6]}"
            if not path.exists():
                path.write_bytes(data)
                path.with_name(path.name + ".txt").write_text(traceback.format_exc(), errors="replace")

    return run


if __name__ == "__main__":
    main()

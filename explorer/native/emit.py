"""The C beside this file as LLVM's language, which the package carries: `python -m explorer.native.emit` writes it anew
after a change, with the compiler of PyPI's ziglang. A user's machine needs no compiler, only llvmlite."""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent / "c"
SOURCES = sorted(path.stem for path in FOLDER.glob("*.c"))
# nothing is optimized yet: that is done for the processor at hand, by `llvm.build`
FLAGS = "-std=c23 -Wall -Werror -O3 -g0 -Xclang -disable-llvm-passes -S -emit-llvm -target x86_64-linux-musl".split()
FLAGS += "-fno-strict-aliasing -fno-sanitize=all -fno-stack-protector -fomit-frame-pointer".split()
FLAGS += ["-Wno-unused-command-line-argument"]
# sums may be taken in any order; what is not a number stays none
FLAGS += "-ffp-contract=fast -fassociative-math -fno-signed-zeros -fno-trapping-math -fno-math-errno".split()


def emitted(name: str) -> str:
    """A source's functions in LLVM's language, free of anything that is one processor's or one system's."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / f"{name}.ll"
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, f"{name}.c", "-o", str(result)]
        subprocess.run(command, check=True, cwd=FOLDER)
        text = result.read_text(encoding="utf-8")
    text = re.sub(r"^(; ModuleID|source_filename|target ).*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"^!llvm\.(module\.flags|ident|errno\.tbaa).*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^(attributes #\d+ =) .*$", r"\1 { nounwind }", text, flags=re.MULTILINE)


if __name__ == "__main__":
    for source in SOURCES:
        (FOLDER / f"{source}.ll").write_text(emitted(source), encoding="utf-8")

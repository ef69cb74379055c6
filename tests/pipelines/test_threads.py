"""Work is shared out by one thread of a training process, and by no other."""

import subprocess
import sys

PROGRAM = """
import threading, torch
from pipelines.threads import share_out

torch.set_num_threads(3)
share_out(2)
found = []
for target in (lambda: found.append(torch.get_num_threads()),) * 2:
    other = threading.Thread(target=target)
    other.start()
    other.join()
torch.randn(1_000_000).add(1)
print(torch.get_num_threads(), *found)
"""


def test_other_threads_do_theirs_alone() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["2", "1", "1"], "")

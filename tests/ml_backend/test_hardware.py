import subprocess
import sys

import pytest

SCRIPT = """
import sys
import numpy as np
import psutil
from ml_backend.hardware import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
before = psutil.Process().memory_info().rss
del_me = np.ones(2**26, np.uint8)
del del_me
print(psutil.Process().memory_info().rss - before > 2**25)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is of Linux")
@pytest.mark.parametrize(("what", "kept"), [("keep", "True"), ("return", "False")])
def test_large_buffers_stay_with_the_process(what, kept):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, what], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == kept

"""What a training worker's step frees, the next one takes without asking the system for it."""

import os
import subprocess
import sys

from pipelines.allocator import CONF, LIBRARY, PRELOAD, allocator

ROUNDS = """
import resource, threading, torch

def faults():  # pages that the system had to bring in
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def rounds():
    for number in range(6):
        before = faults()
        for size in (6_000_000, 30_000, 20_000_000):
            torch.ones(size)
        print(faults() - before)

thread = threading.Thread(target=rounds)  # as Ray calls what it trains with
thread.start()
thread.join()
"""
ASKED = """
import ctypes

value = ctypes.c_ssize_t()
size = ctypes.c_size_t(ctypes.sizeof(value))
for name in (b"opt.dirty_decay_ms", b"opt.muzzy_decay_ms"):
    assert ctypes.CDLL(None).mallctl(name, ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0)) == 0
    print(value.value)
"""
MIXED = """
import ctypes

library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p

def mapped():  # MiB that the system has given
    epoch, found, size = ctypes.c_uint64(1), ctypes.c_size_t(), ctypes.c_size_t(8)
    assert library.mallctl(b"epoch", None, None, ctypes.byref(epoch), ctypes.c_size_t(8)) == 0
    assert library.mallctl(b"stats.mapped", ctypes.byref(found), ctypes.byref(size), None, ctypes.c_size_t(0)) == 0
    return found.value >> 20

library.free(ctypes.c_void_p(library.malloc(ctypes.c_size_t(256 << 20))))
before = mapped()
small = [library.malloc(ctypes.c_size_t(14 << 10)) for _ in range(10_000)]  # 140 MB
print(mapped() - before)
"""
PAGES = 4 * 20_000_000 // 4096


def printed(program: str, variables: dict[str, str]) -> list[int]:
    """Run a program in a process of its own, and return the numbers that it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return [int(line) for line in done.stdout.split()]


def faults_of_later_rounds(**variables: str) -> list[int]:
    """Run rounds of the same allocations, and count the page faults of the last ones."""
    return printed(ROUNDS, variables)[3:]


def test_freed_memory_is_taken_again() -> None:
    assert LIBRARY.is_file()
    assert max(faults_of_later_rounds(**allocator({}))) < PAGES / 20
    assert min(faults_of_later_rounds()) > PAGES / 2


def test_it_is_not_given_back_little_by_little() -> None:
    # The rounds above are over before a decay of a minute shows; in a training run it did, at every step.
    assert printed(ASKED, allocator({})) == [-1, -1]


def test_small_requests_are_served_from_large_blocks_that_are_free() -> None:
    (more,) = printed(MIXED, allocator({}))
    assert more < 10
    keep = allocator({})[CONF].rpartition(",lg_extent_max_active_fit")[0]
    (more,) = printed(MIXED, allocator({}) | {CONF: keep})
    assert more > 100  # what the setting is for


def test_a_person_s_own_choice_stays() -> None:
    assert allocator({PRELOAD: "/usr/lib/libtcmalloc.so"}) == allocator({CONF: "thp:never"}) == {}

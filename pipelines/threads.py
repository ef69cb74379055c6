"""Threads of a training process: one thread shares its work out, all others do theirs alone."""

import threading

import torch


def share_out(threads: int) -> None:
    """Let this thread spread its products over so many, and every other thread of the process over none.

    torch's OpenMP (libgomp) has helpers for each thread that shares work out. Once all of them are more than there are
    processors, it lets every helper sleep between any two pieces of work, for as long as the process lives: on two
    processors, after the first evaluation, whose results a thread of gloo had copied, steps took 1.8 times as long.
    """
    torch.set_num_threads(threads)
    torch.get_num_threads()  # asked for the first time, a thread takes the default over; later changes leave it alone
    other = threading.Thread(target=torch.set_num_threads, args=(1,))
    other.start()
    other.join()

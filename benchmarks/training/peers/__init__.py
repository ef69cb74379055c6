"""Other libraries, each driven through its own trainer in the environment of ``peers.txt``.

Nothing of this project but these files, the stopwatch and the exchange is there.
"""

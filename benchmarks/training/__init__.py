"""How fast models train, beside other libraries, beside what the machine can do, and as sizes grow."""

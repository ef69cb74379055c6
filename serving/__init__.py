"""The ranking service: bundles in, ranked candidates out, over HTTP."""

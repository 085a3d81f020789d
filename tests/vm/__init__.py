"""The ring of tests on other kernels: Debian's stock ones, booted under software emulation."""

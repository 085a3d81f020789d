# SPDX-License-Identifier: MIT
"""What the running kernel has, and how to use it.

architecture.py      registers and function names of each processor architecture
btf.py               struct offsets and function ids, from the kernel's type information
capabilities.py      the rights and mounts that tracing needs
mechanisms.py        tests which mechanisms work; tracer/loading/plan.py chooses among them
trial_programs.py    the small programs for these tests
programs.py          loads and attaches programs
program_info.py      run time and skipped runs of a program
maps.py              reads and writes maps
libbpf.py            libbpf through ctypes
kprobe_events.py     return probes by name in tracefs
blocked_threads.py   threads that are in a system call when tracing starts
cgroups.py           cgroup2 paths and ids
"""

# SPDX-License-Identifier: MIT
"""From the table of operations to C text, and from there to attached programs.

plan.py             chooses the mechanisms for this kernel
operation_layer.py  which system calls are traced, and where
function_layer.py   which kernel functions are traced
source.py           the C text, made from bpf/, the plan and the layers
parent.py           runs the child, and takes over what it loaded
hand_over.py        what parent and child send each other
child.py            the child: compiles with bcc, loads, attaches
instructions.py     changes to the compiled instructions before they are loaded
attachments.py      a program and its target; loads and attaches it
"""

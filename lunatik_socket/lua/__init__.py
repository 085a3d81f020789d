# SPDX-License-Identifier: MIT
"""The socket API for Lua scripts: `State().run(source)`."""

from .state import LuaMissingError, ScriptError, State

__all__ = ["LuaMissingError", "ScriptError", "State"]

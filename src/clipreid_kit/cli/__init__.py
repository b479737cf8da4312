"""The ``clipreid`` command: one file for each of its commands.

A command's file is imported whenever the program starts, for its help; it imports torch and all
else that is heavy inside its function.
"""

"""Uses of clipreid_kit: a reference trainer, its recipes, and short scripts. Not part of the installed library."""

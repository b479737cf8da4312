"""Uses of clipreid_kit: a reference trainer with its recipes and reports, and short scripts."""

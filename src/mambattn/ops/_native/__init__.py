"""The compiled C code that all ops share: one library for each instruction set, loaded and run from here."""

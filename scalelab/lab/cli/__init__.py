"""The command line: one file per group of commands, found months, exit codes, output."""

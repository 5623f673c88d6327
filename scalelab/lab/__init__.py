"""The workbench: real servers, faults, checks, experiments, the command line. Not for services."""

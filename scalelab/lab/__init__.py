"""The workbench: real servers, faults, checks, experiments and the command line. Services never import it."""

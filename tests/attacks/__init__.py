"""What attackers, accidents and bad luck do to CQAR: one file for each attack, run by `make attacks`."""

"""`make demo`: the whole pipeline on this machine, on recorded workflow runs."""

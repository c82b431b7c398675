"""One machine that runs microVMs: boot, snapshot, launch, suspend, resume, end.

Joins the VMM, the guest's agent and the host's resources behind calls whose arguments are plain data, so that a
machine elsewhere could stand behind them. Knows nothing of accounts or rows.
"""

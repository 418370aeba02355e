"""Learning from demonstrations: behaviour cloning and DAgger."""

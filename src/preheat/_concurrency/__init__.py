"""What several rooms need: single flight, a serial worker, a bounded gather, work in threads."""

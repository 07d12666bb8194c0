"""What engines cost: time, memory and work, per layer and step, with the error beside every speed."""

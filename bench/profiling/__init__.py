"""The cost of engines: time, memory and operations per layer and step, with their errors."""

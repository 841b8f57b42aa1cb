"""What the pytest plugin does, once somebody uses it."""

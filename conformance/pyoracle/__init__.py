"""The parts of the oracle: what CPython's asyncio does with a scenario."""

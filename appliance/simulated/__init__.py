"""The interfaces of the engine, played: for the simulator, for laptops, for tests."""

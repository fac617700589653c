"""The targets by name, without importing what they fuzz: it must be imported under instrumentation."""

TARGETS = ("connection", "scanning", "broker", "batches", "websocket")

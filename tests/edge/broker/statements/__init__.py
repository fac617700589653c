"""MQTT's normative statements, each as bytes in and bytes out of the broker's core.

`docs/mqtt-conformance.md` is made from their marks.
"""

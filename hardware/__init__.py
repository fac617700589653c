"""The board beneath: readers of what a machine can measure of itself and of what is wired to it.

Imports core and psutil only, so it costs the edge little; it knows nothing of brokers, logs or lakes.
"""

"""docs/mqtt-conformance.md: every normative statement of MQTT 3.1.1 and 5.0, and the tests that cover it.

A test says what it covers: `@pytest.mark.mqtt(v4="3.1.2-4 3.1.2-5", v5="3.1.2-5")`, on the function or on a case. The labels
and what they ask (in our words) stand in `tests/vectors/mqtt/statements-*.txt`, the reasons in `excused.txt` beside them.
`python -m tests.conformance` writes the document; `test_conformance.py` sees that it is true.
"""

"""Records of every shape."""

from __future__ import annotations

from hypothesis import strategies as st

from headwater.core.record import Record

blobs = (
    st.none() | st.binary(max_size=8) | st.sampled_from([b"", b"v" * 63, b"w" * 64, b"x" * 5000])
)
names = st.text(max_size=5) | st.sampled_from(["hw.address", "é" * 40])
# Any two of these lie less than 2**63 apart.
timestamps = st.integers(-(2**62), 2**62 - 1) | st.integers(1_700_000_000_000, 1_700_000_100_000)
records = st.builds(
    Record,
    timestamps,
    blobs,
    blobs,
    st.lists(st.tuples(names, blobs), max_size=3).map(tuple),
)
batches = st.lists(records, min_size=1, max_size=12)

from ._records_py import Span as Span
from ._records_py import decode_columns as decode_columns
from ._records_py import decode_records as decode_records
from ._records_py import encode_addressed as encode_addressed
from ._records_py import encode_records as encode_records

COMPILED: bool
SOURCE: str

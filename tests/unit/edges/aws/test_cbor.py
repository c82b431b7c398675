"""Maps of texts in CBOR, read again by botocore."""

from __future__ import annotations

import pytest
from botocore.parsers import create_parser

from emberbox.edges.aws.cbor import encode_texts, serialise_cbor_wire_error
from emberbox.edges.aws.errors import UnknownOperationError, WireError


@pytest.mark.parametrize("length", [0, 1, 23, 24, 255, 256, 4096])
def test_botocore_reads_texts_of_any_length(length: int) -> None:
    text = "x" * length
    parser = create_parser("smithy-rpc-v2-cbor")
    stream = parser.get_peekable_stream_from_bytes(encode_texts({"a": text, "b": None, "ü": "é"}))
    assert parser.parse_data_item(stream) == {"a": text, "ü": "é"}  # it leaves nulls out


@pytest.mark.parametrize("error", [WireError("x" * 9000, "Odd", 418), UnknownOperationError()])
def test_a_refusal_has_code_and_text(error: WireError) -> None:
    answer = serialise_cbor_wire_error(error, "id")
    response = {"status_code": answer.status, "headers": answer.headers, "body": answer.body}
    found = create_parser("smithy-rpc-v2-cbor").parse(response, None)["Error"]
    assert (answer.status, found["Code"]) == (error.status, error.error_code)

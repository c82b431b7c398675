"""The AWS wire protocol: signatures, routes, parsing, validation, answers. Knows no SQL and no microVM."""

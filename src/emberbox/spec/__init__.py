"""AWS's service models, as botocore ships them, and what is derived from them. Imports nothing of ours."""

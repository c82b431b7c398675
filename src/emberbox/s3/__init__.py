"""The embedded S3: a process of its own that answers S3's protocol from files and a SQLite index (docs/s3.md)."""

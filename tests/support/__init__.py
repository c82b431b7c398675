"""What the tests with a running server share: the server itself, clients, images, the guests' HTTP, the host's view."""

"""Jupyter asks for no password: the endpoint lets nobody in who has no token of the microVM's."""

c = get_config()  # noqa: F821 -- Jupyter gives it

c.NotebookApp.ip = "127.0.0.1"
c.NotebookApp.port = 8080
c.NotebookApp.open_browser = False
c.NotebookApp.token = ""
c.NotebookApp.allow_remote_access = True  # the Host header is the endpoint's name

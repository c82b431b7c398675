"""The operations in AWS's words: parameters become commands, and records become the members of answers.

One module for each resource. Its `handlers` takes services of `control` and returns the handler of each operation. A
`read_...` function makes a command of parameters, a `show_...` function the members of a record. What the service model
says of a parameter has been checked before (`validate.py`).
"""

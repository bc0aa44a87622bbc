"""The one error of the lab: what is wrong, and how to mend it."""


class LabError(Exception):
    """Something did not work. Printed as the message and a line with the remedy."""

    def __init__(self, message, remedy):
        super().__init__(message)
        self.remedy = remedy

    def __str__(self):
        return f"{super().__str__()}\n  remedy: {self.remedy}"

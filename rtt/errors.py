"""The one error a user should ever see: what was wrong, where, and what to do."""


class UserError(Exception):
    """A mistake or failure the user can act on; the command line prints it without a traceback.

    Args:
        what: what was wrong, in one sentence, with the offending value.
        where: file, line, configuration key or address where it was found.
        todo: what to do about it.
    """

    told = False
    """Whether another process has said it already."""

    def __init__(self, what: str, *, where: object = "", todo: str = "") -> None:
        super().__init__(what)
        self.what, self.where, self.todo = what, str(where), todo

    def __reduce__(self) -> tuple:
        """So that it can be sent to another process, keyword arguments and all."""
        return _remade, (self.what, self.where, self.todo)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.todo:
            lines.append(f"  to do: {self.todo}")
        return "\n".join(lines)


def _remade(what: str, where: str, todo: str) -> UserError:
    return UserError(what, where=where, todo=todo)

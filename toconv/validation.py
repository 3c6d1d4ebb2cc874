"""What pydantic says of a value that breaks a rule, in a line. Needs nothing but pydantic."""

from pydantic import ValidationError

from toconv.errors import told


def broken_rule(error: BaseException) -> str:
    """Of what was read, the first field that is wrong and the rule for it; what any other error says."""
    if not isinstance(error, ValidationError):
        return told(error)
    wrong = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where, rule = ".".join(map(str, wrong["loc"])), str(wrong["msg"]).removeprefix("Value error, ")
    return f"{where}: {rule}" if where else rule

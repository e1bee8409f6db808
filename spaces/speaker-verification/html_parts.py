"""Write the parts of an answer as HTML. Every text that a visitor can give is escaped."""

import html


def figure(caption: str, picture: str) -> str:
    """Write a picture with its caption; `picture` is SVG."""
    return f"<figure><figcaption>{caption}</figcaption>{picture}</figure>"


def panel(kind: str, title: str, text: str) -> str:
    """Write a coloured box. `kind` is same, different or undecided."""
    return f'<div class="verdict {kind}"><h2>{html.escape(title)}</h2><p>{html.escape(text)}</p></div>'


def refusal(error: Exception) -> str:
    """Write an answer that refuses a recording, with the sentence of the error."""
    return (
        f'<div class="answer" role="alert"><div class="verdict refusal"><p>{html.escape(str(error))}</p></div></div>'
    )


def warning_lines(warnings: tuple[str, ...]) -> str:
    """Write a line for each warning about a recording."""
    return "".join(f'<p class="warning">{html.escape(warning)}</p>' for warning in warnings)


def status(content: str) -> str:
    """Write an answer around HTML that is ready."""
    return f'<div class="answer" role="status">{content}</div>'


def note(sentence: str) -> str:
    """Write an answer of one sentence."""
    return status(f"<p>{html.escape(sentence)}</p>")

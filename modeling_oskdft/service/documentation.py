"""Write the page that describes the routes: one file without scripts, which fetches nothing from elsewhere."""

import json
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark; --line: #d0d7de; --dim: #57606a; --code: #f6f8fa; }
@media (prefers-color-scheme: dark) { :root { --line: #30363d; --dim: #8b949e; --code: #161b22; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 0 auto; padding: 1rem; }
h2 { border-top: 1px solid var(--line); padding-top: 1rem; margin-top: 2rem; font-size: 1.1rem; }
code, pre { font: 14px/1.45 ui-monospace, monospace; background: var(--code); border-radius: 6px; }
code { padding: .1em .3em; } pre { padding: .8rem; white-space: pre-wrap; }
td:last-child { overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; display: block; overflow-x: auto; }
td, th { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); }
.dim { color: var(--dim); }
"""
EXAMPLES = {
    "verify": "-F audio1=@first.wav -F audio2=@second.wav",
    "embed": "-F audio=@first.wav",
    "register": "-F name=Ana -F audios=@first.wav -F audios=@second.wav -F consent='signed 2026-11-27'",
    "update": "-F name=Ana -F audio=@third.wav",
    "identify": "-F audio=@unknown.wav -F top_k=3",
    "forget": '-H "Content-Type: application/json" -d \'{"name": "Ana"}\'',
}


def page(schema: dict[str, Any], model: str) -> str:
    """Write the page.

    Args:
        schema: the OpenAPI description of the application.
        model: name of the served model.

    Returns:
        HTML.
    """
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>OS-KDFT: {escape(model)}</title><style>{STYLE}</style></head><body>",
        f"<h1>Speaker verification with {escape(model)}</h1>",
        "<p>Audio is an upload of a form, base64, or a data URI. Answers are JSON; an error is one sentence in "
        "<code>error.message</code>. The full description is <a href='openapi.json'>openapi.json</a>.</p>",
    ]
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            parts += _operation(path, method, operation, schema)
    return "\n".join([*parts, "</body></html>"])


def _operation(path: str, method: str, operation: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    summary = escape(operation.get("summary", ""))
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code></h2>", f"<p>{summary}</p>"]
    example = EXAMPLES.get(operation.get("operationId", ""))
    command = f"curl http://127.0.0.1:8000{path}" + (f" {example}" if example else "")
    parts.append(f"<pre>{escape(command)}</pre>")
    content = operation.get("requestBody", {}).get("content", {})
    if content:
        body = content["application/json"]["schema"]
        parts += ["<table><tr><th>field<th>default<th>meaning</tr>"]
        for name, field in body["properties"].items():
            default = "required" if name in body.get("required", []) else json.dumps(field.get("default"))
            meaning = field.get("description", "")
            parts.append(
                f"<tr><td><code>{escape(name)}</code><td class='dim'>{escape(default)}<td>{escape(meaning)}</tr>"
            )
        parts.append("</table>")
    failures = [status for status in operation.get("responses", {}) if int(status) >= 400 and status != "422"]
    if failures:
        parts.append(f"<p class='dim'>Errors: {', '.join(failures)}.</p>")
    return parts

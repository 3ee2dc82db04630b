"""The documentation pages: `openapi.yaml`, `openapi.json`, and the interactive page `/docs`, which needs no internet.

Swagger UI's files come from the package `swagger-ui-py`. Nothing else of the package is used.
"""

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from orders.http.responses import Response, message_response
from orders.openapi import Document

ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui-standalone-preset.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Orders service</title>
<link rel="icon" href="/docs/favicon-32x32.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<style>
body { margin: 0; }
.swagger-ui .info { margin: 20px 0 0; }
.swagger-ui :is(.info details, .responses-inner) { overflow-x: auto; }
.swagger-ui .renderedMarkdown :is(th, td) { padding: 0.2em 1em 0.2em 0; }
.swagger-ui .renderedMarkdown summary { cursor: pointer; }
.swagger-ui :is(.topbar .link, .scheme-container) { display: none; }
/* All text has a contrast of at least 4.5 : 1 (WCAG 2.2, 1.4.3). These are the colours of Swagger UI that have less. */
.swagger-ui .opblock .opblock-summary-method { color: #000; text-shadow: none; }
.swagger-ui :is(.info a, .info .link, .info .link .url) { color: #1f5fb0; }
.swagger-ui .btn.execute { background: #1f5fb0; border-color: #1f5fb0; }
.swagger-ui .btn.cancel { color: #c00000; border-color: #c00000; }
.swagger-ui .parameter__name.required :is(span, &::after) { color: #c00000; }
.swagger-ui :is(.parameter__in, .json-schema-2020-12-expand-deep-button) { color: #595959; }
.swagger-ui .info .title small.version-stamp { background: #3b6100; }
.swagger-ui :is(.info .title small, .download-contents, .json-schema-2020-12__constraint) { background: #3b4151; }
.swagger-ui .highlight-code [style*="211, 99, 99"] { color: #ff9d9d !important; }
</style>
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
SCRIPTS<script>
SwaggerUIBundle({
  DEFINITIONS,
  dom_id: "#swagger-ui",
  validatorUrl: null,
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true
});
</script>
</body>
</html>
"""

# Swagger UI needs one more script to let the reader choose between definitions.
CHOICE_SCRIPT = '<script src="/docs/swagger-ui-standalone-preset.js"></script>\n'
CHOICE_OPTIONS = 'presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset], layout: "StandaloneLayout"'


@dataclass(frozen=True, slots=True)
class Definition:
    """An OpenAPI document to serve as `openapi.yaml` and `openapi.json` under a prefix, and its name on the page."""

    name: str
    prefix: str
    document: Document


def make_pages(*definitions: Definition) -> dict[str, Response]:
    """Return the pages for these definitions: path -> response.

    Raises FileNotFoundError if a file of Swagger UI is missing.
    """
    page = PAGE.replace("SCRIPTS", "").replace("DEFINITIONS", 'url: "/openapi.json"')
    if len(definitions) > 1:
        urls = json.dumps([{"name": item.name, "url": f"{item.prefix}openapi.json"} for item in definitions])
        page = PAGE.replace("SCRIPTS", CHOICE_SCRIPT).replace("DEFINITIONS", f"urls: {urls}, {CHOICE_OPTIONS}")
    pages = {
        "/": message_response(302, "See /docs", {"Location": "/docs"}),
        "/docs": Response(200, page.encode(), "text/html; charset=utf-8"),
    }
    for definition in definitions:
        pages[f"{definition.prefix}openapi.json"] = Response(200, definition.document.as_json)
        pages[f"{definition.prefix}openapi.yaml"] = Response(200, definition.document.as_yaml, "application/yaml")
    for name, content_type in ASSETS.items():
        pages[f"/docs/{name}"] = Response(200, (_swagger_ui() / name).read_bytes(), content_type)
    return pages


def _swagger_ui() -> Path:
    # Importing the package would load a template engine that nothing here needs.
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package swagger-ui-py is not installed")
    return Path(spec.origin).parent / "static"

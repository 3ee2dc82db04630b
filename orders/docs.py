"""The pages beside the contract: the contract itself, and an interactive page over it that needs no internet.

Swagger UI comes from the package `swagger-ui-py`, of which only the files are used.
"""

from importlib.util import find_spec
from pathlib import Path

from orders.contract import Contract, Document
from orders.controls import PREFIX
from orders.responses import Response, message_response

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
.swagger-ui .renderedMarkdown :is(th, td) { padding: 0.2em 1em 0.2em 0; }
.swagger-ui .topbar .link { display: none; }
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

ONE_DEFINITION = PAGE.replace("SCRIPTS", "").replace("DEFINITIONS", 'url: "/openapi.json"')

# A page that lets its reader choose a definition takes another script.
TWO_DEFINITIONS = PAGE.replace("SCRIPTS", '<script src="/docs/swagger-ui-standalone-preset.js"></script>\n').replace(
    "DEFINITIONS",
    """urls: [
    {name: "Orders service", url: "/openapi.json"},
    {name: "Test controls", url: "PREFIXopenapi.json"}
  ],
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIStandalonePreset],
  layout: "StandaloneLayout\"""".replace("PREFIX", PREFIX),
)


def make_pages(contract: Contract, controls: Document | None) -> dict[str, Response]:
    """Return the pages by their paths; those of the test controls too, if these have a definition.

    Raises FileNotFoundError if Swagger UI is not installed whole.
    """
    page = ONE_DEFINITION if controls is None else TWO_DEFINITIONS
    return {
        "/": message_response(302, "See /docs", {"Location": "/docs"}),
        "/docs": Response(200, page.encode(), "text/html; charset=utf-8"),
        **_definition("/", contract.document),
        **({} if controls is None else _definition(PREFIX, controls)),
        **{
            f"/docs/{name}": Response(200, (_swagger_ui() / name).read_bytes(), content_type)
            for name, content_type in ASSETS.items()
        },
    }


def _definition(prefix: str, document: Document) -> dict[str, Response]:
    return {
        f"{prefix}openapi.json": Response(200, document.as_json),
        f"{prefix}openapi.yaml": Response(200, document.as_yaml, "application/yaml"),
    }


def _swagger_ui() -> Path:
    # Found, not imported: importing the package would load a template engine that nothing here needs.
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package swagger-ui-py is not installed")
    return Path(spec.origin).parent / "static"

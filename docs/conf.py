"""How the documentation is built: see `just docs`."""

from importlib.metadata import version as installed_version

project = "preheat"
author = "The preheat authors"
copyright = "The preheat authors"
version = release = installed_version("preheat")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
copybutton_prompt_text = "$ "
# What is included by dsn.md, performance.md, quality.md and recall.md is not a page.
exclude_patterns = ["_build", "reference/dsn/*.md"]
exclude_patterns += [f"explanation/{page}/*.md" for page in ("performance", "quality", "recall", "reliability")]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
html_title = f"preheat {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "code"  # single backticks in docstrings
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 90

nitpicky = True
nitpick_ignore = [
    # the standard library and other packages: without a network there is nothing to look them up in
    *(
        ("py:class", name)
        for name in (
            "UUID",
            "anyio.abc.TaskGroup",
            "asyncpg.Connection",
            "asyncpg.Pool",
            "collections.abc.AsyncGenerator",
            "datetime.date",
            "collections.abc.AsyncIterable",
            "collections.abc.Awaitable",
            "collections.abc.Callable",
            "collections.abc.Generator",
            "collections.abc.Iterable",
            "collections.abc.Iterator",
            "collections.abc.Mapping",
            "collections.abc.Sequence",
            "contextlib.AbstractAsyncContextManager",
            "datetime.datetime",
            "httpx.AsyncClient",
            "hypothesis.strategies.SearchStrategy",
            "opentelemetry.metrics.MeterProvider",
            "opentelemetry.trace.TracerProvider",
            "opentelemetry.trace.span.Span",
            "os.PathLike",
            "trio.testing.MockClock",
            "uuid.UUID",
        )
    ),
    # type variables
    ("py:class", "preheat.pools.protocol.LeaseT_co"),
    ("py:class", "preheat.pools.protocol.T"),
    ("py:obj", "preheat.pools.protocol.T"),
    ("py:class", "preheat.retrieval.documents.T"),
    ("py:class", "preheat.testing.calls.T"),
    ("py:obj", "preheat.testing.calls.T"),
    ("py:class", "preheat.testing.fake_pool.T"),
    ("py:class", "preheat.testing.virtual_time.T"),
    ("py:class", "preheat.warming.engine.LeaseT"),
    ("py:class", "preheat.warming.once.T"),
    # Sphinx cuts these at their commas
    ("py:class", "Mapping[str"),
    ("py:class", "collections.abc.Mapping[str"),
    ("py:class", "UUID"),
    ("py:obj", "typing.Literal['lifo'"),
    ("py:obj", "typing.Literal['text'"),
]


# How type aliases are written in annotations, and where they are described.
ALIASES = {
    "FileFormat": "preheat.retrieval.FileFormat",
    "Embeddings": "preheat.retrieval.embedders.Embeddings",
    "FilterLike": "preheat.storage.FilterLike",
    "Metric": "preheat.storage.Metric",
    "ReembedProgress": "preheat.retrieval.reembed.ReembedProgress",
    "VectorLike": "preheat.storage.VectorLike",
    "VectorType": "preheat.storage.VectorType",
}


def _find_alias(app, env, node, contnode):
    target = ALIASES.get(node.get("reftarget"))
    if target is None:
        return None
    domain = env.domains["py"]
    return domain.resolve_xref(env, node["refdoc"], app.builder, "type", target, node, contnode)


def _no_type_before_the_colon(_app, what, _name, _obj, _options, lines):
    """A colon in the docstring of an attribute is a colon: napoleon would take what stands before it for a type.

    It looks at the first line only, so that line becomes an escaped space, which is nothing.
    """
    if what in {"attribute", "data", "property"}:
        lines.insert(0, "\\ ")


def setup(app):
    app.connect("missing-reference", _find_alias)
    app.connect("autodoc-process-docstring", _no_type_before_the_colon, priority=400)

"""One Altair theme and renderer for every page, and `glue`, which names a number so that prose can quote it.

A chart becomes a light HTML figure: a static SVG that needs no JavaScript, and beside it the Vega-Lite specification.
One script for the whole page, `vega_bundle()`, finds these figures and makes them interactive, with no network.
Text, axes and grid are drawn in `currentColor` on a transparent background, so a chart follows the page into dark mode.
"""

import hashlib
import html
import json
import re
from collections import Counter
from functools import cache

import altair as alt
import pandas as pd
import vl_convert
from IPython.core.formatters import format_display_data
from IPython.display import display

# Paul Tol's "bright" scheme without its gray: told apart with any common color blindness, on white and on near-black.
PALETTE = ["#4477AA", "#EE6677", "#228833", "#AA3377", "#CCBB44", "#66CCEE"]
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
MARKUP = 'class="tv-chart"'  # how a page that holds a chart is recognized
HIDDEN = "application/papermill.record/"  # before the kinds of an output that is kept and not shown

_times_drawn: Counter[str] = Counter()


def _theme() -> alt.theme.ThemeConfig:
    ink = "currentColor"
    words = {"labelColor": ink, "titleColor": ink, "labelFontSize": 13, "titleFontSize": 13, "titleFontWeight": 600}
    return {
        "background": "transparent",
        "config": {
            "font": FONT,
            "view": {"stroke": None, "continuousWidth": 480, "continuousHeight": 280},
            "axis": {
                **words,
                "titlePadding": 10,
                "labelLimit": 260,
                "gridColor": ink,
                "gridOpacity": 0.12,
                "domainColor": ink,
                "domainOpacity": 0.4,
                "tickColor": ink,
                "tickOpacity": 0.4,
            },
            "axisX": {"labelFlush": False},
            "axisBand": {"grid": False, "labelPadding": 6},
            "legend": {**words, "labelLimit": 260, "symbolSize": 110, "symbolStrokeWidth": 2},
            "header": words,
            "facet": {"spacing": 32},
            "concat": {"spacing": 32},
            "title": {"color": ink, "subtitleColor": ink, "fontSize": 15, "subtitleFontSize": 13, "anchor": "start"},
            "line": {"strokeWidth": 2},
            "point": {"filled": True, "size": 60, "opacity": 0.9},
            "rule": {"color": ink, "strokeWidth": 2},
            "text": {"color": ink, "fontSize": 12},
            "range": {
                "category": PALETTE,
                "heatmap": {"scheme": "viridis"},
                "ramp": {"scheme": "viridis"},
                "diverging": {"scheme": "purpleorange"},
            },
        },
    }


@cache
def _vegalite_version() -> str:
    """The release of Vega-Lite that Altair writes, as vl-convert names it ("6.4")."""
    return ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def _figure_id(spec_text: str) -> str:
    """A digest of the specification, so that a page does not differ from run to run; "-2" where a chart comes again."""
    digest = hashlib.sha256(spec_text.encode()).hexdigest()[:10]
    _times_drawn[digest] += 1
    again = _times_drawn[digest]
    return f"chart-{digest}" + (f"-{again}" if again > 1 else "")


def _static_svg(spec: dict, figure_id: str) -> str:
    svg = vl_convert.vegalite_to_svg(spec, vl_version=_vegalite_version())
    # Vega counts clips and gradients by the order of drawing, which may clash on a page and differ from run to run.
    names: dict[str, str] = {}

    def rename(found: re.Match) -> str:
        return found[1] + names.setdefault(found[2], f"{figure_id}-{len(names)}")

    svg = re.sub(r'(\bid="|url\(#)([^")]+)', rename, svg)
    # Its size fits the fonts of the machine that drew it; where the reader's are wider, words must not be cut off.
    return svg.replace("<svg ", '<svg style="overflow:visible" ', 1)


NOTHING = "Nothing to draw: none of the results of this run is among those that this chart shows."


def _render(spec: dict) -> dict[str, str]:
    description = (spec.get("description") or "").strip()
    if not description:
        raise ValueError("a chart has no alt text: add .properties(description='what the chart shows, in a sentence')")
    if spec.get("datasets") and not any(spec["datasets"].values()):
        # Vega gives facets of nothing an infinite size.
        return {"text/html": f"<p><em>{NOTHING}</em></p>", "text/plain": NOTHING}
    text = json.dumps(spec, separators=(",", ":"), sort_keys=True)
    figure_id = _figure_id(text)
    label = html.escape(description, quote=True)
    spec_json = text.replace("<", "\\u003c")  # nothing inside may end the script element
    figure = (
        f'<figure {MARKUP} id="{figure_id}" style="margin:1rem 0;overflow-x:auto">'
        f'<div class="tv-view" role="img" aria-label="{label}">{_static_svg(spec, figure_id)}</div>'
        f'<script type="application/json">{spec_json}</script></figure>'
    )
    return {"text/html": figure, "text/plain": f"Chart: {description}"}


def use_book_charts() -> None:
    """Give every Altair chart of this notebook the book's theme, and show it as the book's figure.

    Tables show their texts whole, such as the reason of a verdict.
    """
    pd.set_option("display.max_colwidth", None)
    alt.theme.register("book", enable=True)(_theme)
    alt.renderers.register("book", _render)
    alt.renderers.enable("book")
    _times_drawn.clear()


def glue(name: str, value: object) -> None:
    """Keep `value` under `name` in the executed notebook, for MyST's glue role, and show nothing here."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()  # numpy 2 prints np.float64(0.5), which a format such as :.2f cannot read
    data, metadata = format_display_data(value)
    metadata["scrapbook"] = {"name": name, "mime_prefix": HIDDEN}
    display({HIDDEN + mime: content for mime, content in data.items()}, raw=True, metadata=metadata)


def glue_all(**values: object) -> None:
    """Each value under its own name."""
    for name, value in values.items():
        glue(name, value)


_STYLE = """
.tv-chart .vega-embed { padding-right: 0; display: block; width: max-content }
.tv-chart .vega-embed.has-actions { padding-right: 0 }
.tv-chart .vega-embed details:not([open]) > summary { border: 0; box-shadow: none; background: none; color: inherit }
.tv-chart .vega-embed .vega-actions a { color: #222 }
.tv-chart .vega-bindings { font-size: .875rem; margin: .25rem 0 0 }
.tv-chart .vega-bind { display: inline-block; margin-right: 1.5rem }
.tv-chart .vega-bind label { display: flex; gap: .5rem; align-items: center; margin: 0 }
.tv-chart .vega-bind-name { font-weight: 600; margin: 0 }
@media print { .tv-chart details { display: none } }
"""

# A chart is drawn when it comes near the window. On a phone its legend moves below it, and a chart of one panel gives
# up width until it fits; whatever is still too wide scrolls inside its figure.
_LOADER = """
(() => {
  const style = document.createElement("style");
  style.textContent = STYLE;
  document.head.append(style);
  const options = { mode: "vega-lite", renderer: "svg",
    actions: { export: true, source: false, compiled: false, editor: false } };
  const BELOW = { orient: "bottom", direction: "vertical", columns: 1, gradientDirection: "horizontal" };
  const onePanel = (spec) => Number.isFinite(spec.width)
    && !["row", "column", "facet"].some((channel) => channel in (spec.encoding ?? {}));
  const draw = async (figure) => {
    const spec = JSON.parse(figure.querySelector("script").textContent);
    const frame = figure.querySelector(".tv-view");
    if (figure.clientWidth < 480) Object.assign(spec.config.legend, BELOW);
    const live = document.createElement("div");
    try {
      const { view } = await vegaEmbed(live, spec, options);
      frame.removeAttribute("role");
      frame.removeAttribute("aria-label");
      frame.replaceChildren(live);
      const excess = figure.scrollWidth - figure.clientWidth;
      if (excess > 0 && onePanel(spec)) await view.width(Math.max(160, spec.width - excess)).runAsync();
      live.querySelector("summary")?.setAttribute("aria-label", "Save this chart");
      figure.vegaView = view;
      figure.dataset.ready = "true";
    } catch (error) {
      figure.dataset.error = String(error);
      console.error(error);
    }
  };
  const start = () => {
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) {
        observer.unobserve(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "400px" });
    document.querySelectorAll("figure.tv-chart").forEach((figure) => observer.observe(figure));
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start); else start();
})();
"""


@cache
def vega_bundle() -> str:
    """The one script a page with charts needs: Vega, Vega-Lite, vega-embed, the loader, style; nothing is fetched.

    Use it as a file of its own, or inline as `<script>…</script>`.
    """
    vega = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_vegalite_version())
    script = f"(() => {{{vega}\n}})();\n" + _LOADER.replace("STYLE", json.dumps(_STYLE), 1)
    return script.replace("</script", "<\\/script")

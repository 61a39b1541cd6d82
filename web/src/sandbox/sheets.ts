// The terminal writes its colours and sizes into style elements, which the
// page's Content-Security-Policy refuses. Here they become style sheets that
// only script can make, and no markup.

// withSheets returns a document for the terminal that makes such elements.
export function withSheets(real: Document): Document {
  const make = (tag: string) => (tag.toLowerCase() === "style" ? sheet(real) : real.createElement(tag));
  return new Proxy(real, {
    get(target, key) {
      if (key === "createElement") return make;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? (value as (...a: unknown[]) => unknown).bind(target) : value;
    },
    set: (target, key, value) => Reflect.set(target, key, value, target),
  });
}

// sheet is an element that is empty; text that is set on it becomes the text of
// a style sheet, which goes when the element does.
function sheet(real: Document): HTMLElement {
  const element = real.createElement("bulkhead-style");
  element.hidden = true;
  const css = new CSSStyleSheet();
  real.adoptedStyleSheets = [...real.adoptedStyleSheets, css];
  Object.defineProperty(element, "textContent", { get: () => "", set: (text: string) => css.replaceSync(text) });
  Object.defineProperty(element, "remove", {
    value: () => {
      real.adoptedStyleSheets = real.adoptedStyleSheets.filter((s) => s !== css);
      Element.prototype.remove.call(element);
    },
  });
  return element;
}

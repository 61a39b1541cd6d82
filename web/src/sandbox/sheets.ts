// The terminal writes its colours and sizes into style elements, which the
// page's Content-Security-Policy refuses. Here they become style sheets that
// only script can make, and no markup.

// withSheets has a document make such elements instead of style elements.
// Nothing else in this page makes any.
export function withSheets(doc: Document): void {
  if (Object.hasOwn(doc, "createElement")) return;
  const make = (tag: string, options?: ElementCreationOptions) =>
    tag.toLowerCase() === "style" ? sheet(doc) : Document.prototype.createElement.call(doc, tag, options);
  Object.defineProperty(doc, "createElement", { value: make });
  // The colour of a cell that is none of the theme's is an attribute of its span,
  // which the policy refuses too; a script may set the same by the object model.
  Object.defineProperty(HTMLSpanElement.prototype, "setAttribute", {
    value(this: HTMLSpanElement, name: string, value: string) {
      if (name === "style") this.style.cssText = value;
      else Element.prototype.setAttribute.call(this, name, value);
    },
  });
}

// sheet is an element that is empty; text that is set on it becomes the text of
// a style sheet, which goes when the element does.
function sheet(doc: Document): HTMLElement {
  const element = doc.createElement("bulkhead-style");
  element.hidden = true;
  const css = new CSSStyleSheet();
  doc.adoptedStyleSheets = [...doc.adoptedStyleSheets, css];
  Object.defineProperty(element, "textContent", { get: () => "", set: (text: string) => css.replaceSync(text) });
  Object.defineProperty(element, "remove", {
    value: () => {
      doc.adoptedStyleSheets = doc.adoptedStyleSheets.filter((s) => s !== css);
      Element.prototype.remove.call(element);
    },
  });
  return element;
}

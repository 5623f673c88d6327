"use strict";
// Draws /openapi.json. Text from the description only ever becomes text, never markup.

function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// A schema with its reference followed and, of alternatives, the first that is not null.
function resolved(spec, schema) {
  let found = schema ?? {};
  for (let depth = 0; depth < 20; depth += 1) {
    const alternatives = found.anyOf ?? found.oneOf ?? found.allOf;
    if (found.$ref) {
      found = found.$ref.slice(2).split("/").reduce((at, key) => at?.[key], spec) ?? {};
    } else if (alternatives) {
      found = alternatives.find((each) => each.type !== "null") ?? {};
    } else {
      break;
    }
  }
  return found;
}

// A value that shows the shape; the description's own examples win.
function example(spec, schema, depth = 0) {
  const own = schema?.examples?.[0] ?? schema?.example;
  const shape = resolved(spec, schema);
  const given = own ?? shape.examples?.[0] ?? shape.example ?? shape.const ?? shape.enum?.[0];
  if (given !== undefined || depth > 6) return given ?? null;
  switch (Array.isArray(shape.type) ? shape.type[0] : shape.type) {
    case "object":
      return Object.fromEntries(
        Object.entries(shape.properties ?? {}).map(([k, v]) => [k, example(spec, v, depth + 1)]),
      );
    case "array":
      return [example(spec, shape.items, depth + 1)];
    case "integer":
    case "number":
      return shape.minimum ?? 1;
    case "boolean":
      return true;
    case "string":
      return shape.format ?? "text".padEnd(shape.minLength ?? 0, "-text");
    default:
      return null;
  }
}

// The limits of a value in words: "string, 1 to 255 long".
function limits(spec, schema) {
  const shape = resolved(spec, schema);
  const words = [[shape.type ?? "any"].flat().join(" or ")];
  if (shape.format) words.push(shape.format);
  if (shape.minLength !== undefined || shape.maxLength !== undefined) {
    words.push(`${shape.minLength ?? 0} to ${shape.maxLength ?? "any"} long`);
  }
  if (shape.minimum !== undefined || shape.maximum !== undefined) {
    words.push(`${shape.minimum ?? "any"} to ${shape.maximum ?? "any"}`);
  }
  if (shape.pattern) words.push(shape.pattern);
  return words.join(", ");
}

function table(rows) {
  const lines = rows.map(([head, ...cells]) =>
    make("tr", {}, make("th", {}, make("code", { textContent: head })),
      ...cells.map((cell) => make("td", { textContent: cell }))));
  return make("table", {}, make("tbody", {}, ...lines));
}

function quoted(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

// The request as a line for a shell.
function curl(spec, method, path, operation, parameters) {
  const parts = [`curl -si ${quoted(location.origin + path)}`];
  if (method !== "get") parts[0] += ` -X ${method.toUpperCase()}`;
  if (operation.security?.length) parts.push(`-H "Authorization: Bearer $TOKEN"`);
  for (const parameter of parameters) {
    if (parameter.in === "header" && parameter.required) {
      parts.push(`-H ${quoted(`${parameter.name}: ${example(spec, parameter.schema)}`)}`);
    }
  }
  for (const [type, body] of Object.entries(operation.requestBody?.content ?? {})) {
    const value = example(spec, body.schema);
    const sent = type.includes("json") ? JSON.stringify(value) : String(new URLSearchParams(value));
    parts.push(`-H ${quoted(`Content-Type: ${type}`)}`, `-d ${quoted(sent)}`);
  }
  return parts.join(" \\\n  ");
}

function drawn(spec, method, path, operation, shared) {
  const parameters = [...shared, ...(operation.parameters ?? [])].map((each) => resolved(spec, each));
  const inside = make("div");
  if (operation.description) inside.append(make("p", { textContent: operation.description }));
  if (parameters.length) {
    inside.append(make("h3", { textContent: "takes" }), table(parameters.map((each) => [
      each.name, each.in + (each.required ? ", required" : ""), limits(spec, each.schema),
      each.description ?? "",
    ])));
  }
  for (const [type, body] of Object.entries(operation.requestBody?.content ?? {})) {
    const text = JSON.stringify(example(spec, body.schema), null, 2);
    inside.append(make("h3", { textContent: `body, ${type}` }), make("pre", { textContent: text }));
  }
  inside.append(make("h3", { textContent: "answers" }), table(
    Object.entries(operation.responses ?? {}).map(([status, answer]) =>
      [status, answer.description ?? ""])));
  inside.append(make("h3", { textContent: "in a shell" }),
    make("pre", { textContent: curl(spec, method, path, operation, parameters) }));
  return make("details", {},
    make("summary", {},
      make("code", { className: `method ${method}`, textContent: method.toUpperCase() }),
      make("code", { textContent: path }),
      make("span", { className: "what", textContent: operation.summary ?? "" })),
    inside);
}

const METHODS = ["get", "post", "put", "patch", "delete"];

async function draw() {
  const place = document.getElementById("operations");
  try {
    const answer = await fetch("/openapi.json");
    if (!answer.ok) throw new Error(`openapi.json answered ${answer.status}`);
    const spec = await answer.json();
    document.title = `${spec.info.title}: API reference`;
    document.getElementById("title").textContent = spec.info.title;
    const groups = new Map();
    for (const [path, item] of Object.entries(spec.paths)) {
      for (const method of METHODS.filter((name) => item[name])) {
        const tag = item[method].tags?.[0] ?? "operations";
        if (!groups.has(tag)) groups.set(tag, []);
        groups.get(tag).push(drawn(spec, method, path, item[method], item.parameters ?? []));
      }
    }
    place.replaceChildren(...[...groups].flatMap(([tag, items]) =>
      [make("h2", { textContent: tag }), ...items]));
    place.querySelector("details")?.setAttribute("open", "");
  } catch (error) {
    place.replaceChildren(make("p", { textContent: `The description cannot be shown: ${error}` }));
  }
}

draw();

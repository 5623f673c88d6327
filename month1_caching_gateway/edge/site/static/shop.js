// Show a page of products, and which edge point answered from where.
const served = document.querySelector("#served");
const list = document.querySelector("#products");

function card(product) {
  const box = document.createElement("article");
  const name = document.createElement("span");
  const price = document.createElement("strong");
  name.textContent = product.name;
  price.textContent = new Intl.NumberFormat(undefined, {
    style: "currency",
    currency: product.price.currency,
  }).format(product.price.minor / 100);
  box.append(name, price);
  return box;
}

async function show() {
  const answer = await fetch("/api/v2/products?limit=12");
  if (!answer.ok) {
    served.textContent = `The catalogue answered ${answer.status}.`;
    return;
  }
  const page = await answer.json();
  list.replaceChildren(...page.items.map(card));
  const edge = answer.headers.get("x-edge") ?? "no edge";
  const cache = answer.headers.get("x-edge-cache") ?? "not kept";
  served.textContent = `${page.items.length} products from the edge “${edge}” (${cache}).`;
}

show().catch(() => {
  served.textContent = "Nobody answered.";
});

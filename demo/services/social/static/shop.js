// The whole front end. It calls the shops' API on its own host and never learns which back end answers.
const view = document.querySelector("#view");
const buyer = document.querySelector("meta[name=buyer]").content;
const STATUS = {
  UNPAID: "Menunggu pembayaran", AWAITING_SHIPMENT: "Dibayar, segera dikemas", AWAITING_COLLECTION: "Menunggu kurir",
  IN_TRANSIT: "Dalam perjalanan", DELIVERED: "Tiba di tujuan", COMPLETED: "Selesai", CANCELLED: "Dibatalkan",
};
const TROUBLE = { out_of_stock: "Stok tidak cukup.", cart_empty: "Keranjang kosong.", not_found: "Tidak ditemukan." };

const rupiah = (text) => "Rp" + Number(text).toLocaleString("id-ID");
const shopPath = (shop, rest = "") => `/api/shops/${shop}${rest}`;
const lastShop = () => sessionStorage.getItem("shop");

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

async function call(path, { body, key } = {}) {
  const headers = { "X-Buyer-Id": buyer };
  if (body) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  const answer = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  const said = await answer.json();
  if (!answer.ok) throw new Error(TROUBLE[said.error] ?? "Belum berhasil. Silakan coba lagi.");
  return said;
}

// A key belongs to one attempt and is kept until that attempt has succeeded.
async function once(attempt, path, body) {
  const key = sessionStorage.getItem(attempt) ?? crypto.randomUUID();
  sessionStorage.setItem(attempt, key);
  const said = await call(path, { body, key });
  sessionStorage.removeItem(attempt);
  return said;
}

function say(text) {
  const notice = document.querySelector("#notice");
  notice.textContent = text;
  notice.hidden = false;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { notice.hidden = true; }, 2500);
}

const action = (work) => async (event) => {
  event.preventDefault();
  const control = event.submitter ?? event.currentTarget;
  control.disabled = true;
  try { await work(event); } catch (error) { say(error.message); } finally { control.disabled = false; }
};

const page = (title, ...children) => el("section", { class: "page" }, el("h1", {}, title), ...children);
const by = (operator) => el("p", { class: "by" }, `Diproses oleh ${operator}`);
const lines = (items) => el("ul", { class: "lines" }, ...items.map((item) =>
  el("li", {}, el("span", {}, `${item.quantity} × ${item.title}`), el("span", {}, rupiah(item.price)))));
const total = (amount) => el("p", { class: "total" }, el("span", {}, "Total"), el("strong", {}, rupiah(amount)));

async function feed() {
  const { promotions } = await call("/api/feed");
  const watcher = new IntersectionObserver((seen) => seen.forEach(({ target, isIntersecting }) =>
    isIntersecting ? target.play().catch(() => {}) : target.pause()), { threshold: 0.6 });
  return el("div", { class: "feed", tabindex: "0", "aria-label": "Video" }, ...promotions.map((promo) => {
    const video = el("video", { src: promo.clip, muted: true, loop: true, playsinline: true, preload: "metadata" });
    video.muted = true;
    watcher.observe(video);
    return el("article", {}, video, el("div", { class: "caption" },
      el("strong", {}, promo.creator), el("p", {}, promo.caption),
      el("p", { class: "likes" }, `${promo.likes.toLocaleString("id-ID")} suka`),
      el("a", { class: "button", href: promo.link }, "Lihat produk")));
  }));
}

async function shops() {
  if (lastShop()) return shop(lastShop());
  const { promotions } = await call("/api/feed");
  return shop(promotions[0].shop_id);
}

async function shop(id) {
  const [about, { products }] = await Promise.all([call(shopPath(id)), call(shopPath(id, "/products"))]);
  sessionStorage.setItem("shop", id);
  return page(about.name, el("p", { class: "muted" }, `${about.city} · nilai ${about.rating}`),
    el("div", { class: "grid" }, ...products.map((product) =>
      el("a", { class: "card", href: `#/shops/${id}/products/${product.product_id}` },
        el("img", { src: product.image, alt: "", width: "160", height: "160" }),
        el("span", {}, product.title), el("strong", {}, rupiah(product.price))))),
    by(about.processed_by));
}

async function product(id, productId) {
  const shown = await call(shopPath(id, `/products/${productId}`));
  sessionStorage.setItem("shop", id);
  const add = action(async () => {
    await call(shopPath(id, "/cart/items"), { body: { product_id: productId, quantity: 1 } });
    location.hash = `#/shops/${id}/cart`;
  });
  return page(shown.title, el("img", { class: "hero", src: shown.image, alt: "", width: "320", height: "320" }),
    el("p", { class: "price" }, rupiah(shown.price)), el("p", {}, shown.description),
    el("p", { class: "muted" }, `Stok ${shown.stock.toLocaleString("id-ID")}`),
    el("button", { class: "button", onclick: add }, "Masukkan keranjang"),
    el("a", { class: "more", href: `#/shops/${id}` }, "Lihat toko"));
}

async function cart(id = lastShop()) {
  const { items, total_amount } = id ? await call(shopPath(id, "/cart")) : { items: [] };
  if (!items.length) return page("Keranjang", el("p", { class: "muted" }, "Masih kosong."));
  const field = (name, label, value) =>
    el("label", {}, label, el("input", { name, value, required: true, autocomplete: "on" }));
  const order = action(async (event) => {
    const address = Object.fromEntries(new FormData(event.target));
    const placed = await once(`checkout-${id}`, shopPath(id, "/orders"), { address });
    location.hash = `#/shops/${id}/orders/${placed.order_id}`;
  });
  const me = await call("/api/me/profile");
  return page("Keranjang", lines(items), total(total_amount), el("form", { onsubmit: order },
    field("name", "Nama penerima", me.name), field("phone", "Telepon", me.phone),
    field("street", "Alamat", "Jalan Melati 12"), field("city", "Kota", me.city),
    el("button", { class: "button" }, "Buat pesanan")));
}

async function order(id, orderId) {
  const path = shopPath(id, `/orders/${orderId}`);
  const placed = await call(path);
  const pay = (method) => action(async () => {
    const charge = await once(`payment-${orderId}-${method}`, `${path}/payment`, { method });
    say(charge.va_number ? `Nomor VA ${charge.va_number}` : "Kode QRIS siap dipindai");
    await settled(path);
    route();
  });
  const choices = placed.payment_status || placed.status !== "UNPAID" ? [] : [
    el("button", { class: "button", onclick: pay("va") }, "Bayar dengan virtual account"),
    el("button", { class: "button quiet", onclick: pay("qris") }, "Bayar dengan QRIS")];
  return page("Pesanan", el("p", { class: "muted" }, `Nomor ${placed.order_id}`),
    el("p", { class: `status ${placed.status}` }, STATUS[placed.status]), lines(placed.items),
    total(placed.total_amount), ...choices,
    el("a", { class: "more", href: placed.invoice_url }, "Lihat faktur"), by(placed.processed_by));
}

async function settled(path) {
  for (let look = 0; look < 20; look += 1) {
    await new Promise((next) => { setTimeout(next, 500); });
    if ((await call(path)).payment_status === "settlement") return;
  }
}

async function orders() {
  const { orders: mine } = await call("/api/me/orders?limit=20");
  return page("Pesanan saya", el("ul", { class: "orders" }, ...mine.map((placed) =>
    el("li", {}, el("a", { href: `#/shops/${placed.shop_id}/orders/${placed.order_id}` },
      el("span", {}, placed.order_id), el("strong", {}, rupiah(placed.total_amount)),
      el("span", { class: "muted" }, STATUS[placed.status]))))));
}

const ROUTES = [
  [/^#\/shops\/(\d+)\/products\/(\d+)$/, product], [/^#\/shops\/(\d+)\/orders\/(\d+)$/, order],
  [/^#\/shops\/(\d+)\/cart$/, cart], [/^#\/shops\/(\d+)$/, shop], [/^#\/shops$/, shops],
  [/^#\/cart$/, () => cart()], [/^#\/orders$/, orders], [/^/, feed],
];

async function route() {
  const [pattern, show] = ROUTES.find(([candidate]) => candidate.test(location.hash));
  try {
    view.replaceChildren(await show(...(location.hash.match(pattern)?.slice(1) ?? [])));
  } catch (error) {
    view.replaceChildren(page("Maaf", el("p", {}, error.message)));
  }
  const here = ["cart", "orders", "shops"].find((word) => location.hash.includes(word)) ?? "";
  document.querySelectorAll("nav a").forEach((link) =>
    link.setAttribute("aria-current", link.hash === `#/${here}` ? "page" : "false"));
  scrollTo(0, 0);
}

addEventListener("hashchange", route);
route();
